//! Packets for a client, in the version that it speaks.

use mqtt_protocol_core::mqtt::packet::{
    AssignedClientIdentifier, ContentType, Packet, PayloadFormat, PayloadFormatIndicator, Properties, Qos,
    ReasonString, RetainAvailable, ServerKeepAlive, SessionExpiryInterval, SharedSubscriptionAvailable,
    SubscriptionIdentifierAvailable, UserProperty, WildcardSubscriptionAvailable, v3_1_1, v5_0,
};
use mqtt_protocol_core::mqtt::result_code::{
    ConnectReturnCode, MqttError, PubcompReasonCode, SubackReturnCode, UnsubackReasonCode,
};
use veilcast::Message;
use veilcast::wire::ContentType as Kind;

use super::no::No;

/// Which version a client speaks, and whether it wants to know why something was not done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tongue {
    pub(super) v5: bool,
    pub(super) problems: bool,
}

/// A packet, unless it cannot be made: a text in it is too long.
pub(super) type Made = Result<Packet, MqttError>;

/// What a client that is let in is told.
pub(super) struct Welcome {
    /// The name that it got, where it brought none.
    pub(super) client_id: Option<String>,
    /// The keep-alive that holds instead of its own, seconds.
    pub(super) keep_alive: Option<u16>,
}

impl Tongue {
    pub(super) fn welcome(self, welcome: Welcome) -> Made {
        if !self.v5 {
            let accepted = v3_1_1::Connack::builder().session_present(false).return_code(ConnectReturnCode::Accepted);
            return Ok(accepted.build()?.into());
        }
        let mut properties: Properties = vec![
            SessionExpiryInterval::new(0)?.into(),
            RetainAvailable::new(0)?.into(),
            WildcardSubscriptionAvailable::new(0)?.into(),
            SubscriptionIdentifierAvailable::new(0)?.into(),
            SharedSubscriptionAvailable::new(0)?.into(),
        ];
        if let Some(name) = welcome.client_id {
            properties.push(AssignedClientIdentifier::new(name.as_str())?.into());
        }
        if let Some(seconds) = welcome.keep_alive {
            properties.push(ServerKeepAlive::new(seconds)?.into());
        }
        let accepted = v5_0::Connack::builder().session_present(false).reason_code(No::nothing());
        Ok(accepted.props(properties).build()?.into())
    }

    pub(super) fn not_welcome(self, no: &No) -> Made {
        if !self.v5 {
            let refused = v3_1_1::Connack::builder().session_present(false).return_code(no.at_login_v3());
            return Ok(refused.build()?.into());
        }
        let refused = v5_0::Connack::builder().session_present(false).reason_code(no.at_login());
        Ok(refused.props(vec![ReasonString::new(no.why())?.into()]).build()?.into())
    }

    /// That a message with QoS 1 was published, or why not; in version 3.1.1 nobody can be told why.
    pub(super) fn published(self, id: u16, no: Option<&No>) -> Made {
        if !self.v5 {
            return Ok(v3_1_1::Puback::builder().packet_id(id).build()?.into());
        }
        let answer = v5_0::Puback::builder().packet_id(id);
        Ok(match no {
            None => answer.build()?.into(),
            Some(no) => answer.reason_code(no.at_publish()).props(self.reason(no)?).build()?.into(),
        })
    }

    /// The same for the first half of one with QoS 2.
    pub(super) fn received(self, id: u16, no: Option<&No>) -> Made {
        if !self.v5 {
            return Ok(v3_1_1::Pubrec::builder().packet_id(id).build()?.into());
        }
        let answer = v5_0::Pubrec::builder().packet_id(id);
        Ok(match no {
            None => answer.build()?.into(),
            Some(no) => answer.reason_code(no.at_receive()).props(self.reason(no)?).build()?.into(),
        })
    }

    /// And for the second; or that there was no first under this id, which version 3.1.1 cannot say.
    pub(super) fn completed(self, id: u16, known: bool) -> Made {
        if !self.v5 {
            return Ok(v3_1_1::Pubcomp::builder().packet_id(id).build()?.into());
        }
        let answer = v5_0::Pubcomp::builder().packet_id(id);
        Ok(match known {
            true => answer.build()?.into(),
            false => answer.reason_code(PubcompReasonCode::PacketIdentifierNotFound).build()?.into(),
        })
    }

    /// One answer for each that was subscribed to: whether its messages are acknowledged, or why there are none.
    pub(super) fn subscribed(self, id: u16, answers: &[Result<bool, No>]) -> Made {
        if !self.v5 {
            let code = |answer: &Result<bool, No>| match answer {
                Ok(true) => SubackReturnCode::SuccessMaximumQos1,
                Ok(false) => SubackReturnCode::SuccessMaximumQos0,
                Err(_) => SubackReturnCode::Failure,
            };
            let codes = answers.iter().map(code).collect();
            return Ok(v3_1_1::Suback::builder().packet_id(id).return_codes(codes).build()?.into());
        }
        let codes = answers.iter().map(No::at_subscribe).collect();
        let answer = v5_0::Suback::builder().packet_id(id).reason_codes(codes);
        let no = answers.iter().find_map(|answer| answer.as_ref().err());
        let properties = no.map(|no| self.reason(no)).transpose()?.unwrap_or_default();
        Ok(answer.props(properties).build()?.into())
    }

    /// One answer for each: whether it was subscribed to.
    pub(super) fn unsubscribed(self, id: u16, found: &[bool]) -> Made {
        if !self.v5 {
            return Ok(v3_1_1::Unsuback::builder().packet_id(id).build()?.into());
        }
        let code = |found: &bool| match found {
            true => UnsubackReasonCode::Success,
            false => UnsubackReasonCode::NoSubscriptionExisted,
        };
        let codes = found.iter().map(code).collect();
        Ok(v5_0::Unsuback::builder().packet_id(id).reason_codes(codes).build()?.into())
    }

    pub(super) fn pong(self) -> Packet {
        if self.v5 { v5_0::Pingresp::new().into() } else { v3_1_1::Pingresp::new().into() }
    }

    /// Why the connection ends; in version 3.1.1 it just does.
    pub(super) fn bye(self, no: &No) -> Option<Packet> {
        if !self.v5 {
            return None;
        }
        let reason = ReasonString::new(no.why()).ok()?;
        let bye = v5_0::Disconnect::builder().reason_code(no.at_the_end()).props(vec![reason.into()]);
        bye.build().ok().map(Into::into)
    }

    /// A message, under the topic that was subscribed to. With an id it is to be acknowledged.
    pub(super) fn message(self, topic: &str, id: Option<u16>, message: &Message) -> Made {
        let qos = if id.is_some() { Qos::AtLeastOnce } else { Qos::AtMostOnce };
        let payload = &message.payload[..];
        if !self.v5 {
            let publish = v3_1_1::Publish::builder().topic_name(topic)?.qos(qos).payload(payload);
            return Ok(match id {
                Some(id) => publish.packet_id(id).build()?.into(),
                None => publish.build()?.into(),
            });
        }
        let publish = v5_0::Publish::builder().topic_name(topic)?.qos(qos).payload(payload).props(about(message)?);
        Ok(match id {
            Some(id) => publish.packet_id(id).build()?.into(),
            None => publish.build()?.into(),
        })
    }

    fn reason(self, no: &No) -> Result<Properties, MqttError> {
        Ok(if self.problems { vec![ReasonString::new(no.why())?.into()] } else { Vec::new() })
    }
}

/// What there is to know of a message beside its payload, under the names that the other doors have for it.
fn about(message: &Message) -> Result<Properties, MqttError> {
    let (kind, format) = match message.content_type {
        Kind::Json if message.text().is_some() => ("application/json", PayloadFormat::String),
        Kind::Text if message.text().is_some() => ("text/plain", PayloadFormat::String),
        _ => ("application/octet-stream", PayloadFormat::Binary),
    };
    let mut properties: Properties = vec![PayloadFormatIndicator::new(format)?.into(), ContentType::new(kind)?.into()];
    let mut tell = |name: &str, value: &str| -> Result<(), MqttError> {
        properties.push(UserProperty::new(name, value)?.into());
        Ok(())
    };
    tell("partition", &message.part.number().to_string())?;
    tell("publisher", &message.publisher.to_string())?;
    tell("timestamp", &message.at.timestamp.as_millis().to_string())?;
    tell("sequence", &message.at.sequence.to_string())?;
    if let Some(key_id) = &message.key_id {
        tell("key_id", key_id.as_str())?;
    }
    Ok(properties)
}
