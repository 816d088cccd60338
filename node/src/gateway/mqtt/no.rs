//! Why something was not done: one reason, and what each packet of the protocol calls it.

use axum::http::StatusCode;
use mqtt_protocol_core::mqtt::result_code::{
    ConnectReasonCode, ConnectReturnCode, DisconnectReasonCode, PubackReasonCode, PubrecReasonCode, SubackReasonCode,
};

use super::super::error::ApiError;

/// A refusal, or an end.
#[derive(Clone, Debug)]
pub(super) struct No {
    reason: Reason,
    why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The API key is not known, or there is none.
    Login,
    /// Another way to log in was asked for.
    LoginMethod,
    /// The API key allows it not, or no more; or this node may not.
    NotAuthorized,
    /// No stream goes by that topic.
    Topic,
    /// It is more than there may be, or the client takes too little.
    Quota,
    /// The payload is not what is said of it.
    PayloadFormat,
    /// Nothing is retained here.
    Retain,
    /// Topics are named one by one.
    Wildcard,
    /// Every client gets everything.
    Shared,
    /// Subscriptions have no numbers.
    Identifier,
    /// Another connection has the same name.
    TakenOver,
    /// The packet is larger than it may be.
    TooLarge,
    /// The packet is none.
    Malformed,
    /// Who wants a session kept needs a name.
    Nameless,
    /// The protocol has no place for it.
    Protocol,
    /// Others need the place more.
    Busy,
    /// The node stops.
    Stopping,
    /// It cannot be done here.
    CannotBe,
    /// This node failed.
    Failed,
}

impl No {
    pub(super) fn new(reason: Reason, why: impl Into<String>) -> Self {
        Self { reason, why: why.into() }
    }

    /// What it is in words. Of what the client sent nothing is repeated that is secret or long.
    pub(super) fn why(&self) -> &str {
        &self.why
    }

    /// Whether somebody wants what he may not have, or more than there may be, or this node cannot do what it is for.
    pub(super) const fn is_grave(&self) -> bool {
        use Reason::{Busy, Failed, Login, LoginMethod, NotAuthorized, Quota};
        matches!(self.reason, Login | LoginMethod | NotAuthorized | Quota | Busy | Failed)
    }

    /// Whether what was shown is no key of ours.
    pub(super) const fn is_a_stranger(&self) -> bool {
        matches!(self.reason, Reason::Login)
    }

    /// What it is.
    #[cfg(test)]
    pub(super) const fn reason(&self) -> Reason {
        self.reason
    }

    /// That nothing is wrong, at the login.
    pub(super) const fn nothing() -> ConnectReasonCode {
        ConnectReasonCode::Success
    }

    pub(super) const fn at_login(&self) -> ConnectReasonCode {
        match self.reason {
            Reason::Login => ConnectReasonCode::BadUserNameOrPassword,
            Reason::LoginMethod => ConnectReasonCode::BadAuthenticationMethod,
            Reason::NotAuthorized => ConnectReasonCode::NotAuthorized,
            Reason::Topic | Reason::Wildcard | Reason::Shared => ConnectReasonCode::TopicNameInvalid,
            Reason::Quota => ConnectReasonCode::QuotaExceeded,
            Reason::PayloadFormat => ConnectReasonCode::PayloadFormatInvalid,
            Reason::TooLarge => ConnectReasonCode::PacketTooLarge,
            Reason::Malformed => ConnectReasonCode::MalformedPacket,
            Reason::Nameless => ConnectReasonCode::ClientIdentifierNotValid,
            Reason::Retain => ConnectReasonCode::RetainNotSupported,
            Reason::Busy => ConnectReasonCode::ServerBusy,
            Reason::Stopping => ConnectReasonCode::ServerUnavailable,
            Reason::Protocol | Reason::Identifier | Reason::TakenOver => ConnectReasonCode::ProtocolError,
            Reason::CannotBe => ConnectReasonCode::ImplementationSpecificError,
            Reason::Failed => ConnectReasonCode::UnspecifiedError,
        }
    }

    pub(super) const fn at_login_v3(&self) -> ConnectReturnCode {
        match self.reason {
            Reason::Login => ConnectReturnCode::BadUserNameOrPassword,
            Reason::Nameless => ConnectReturnCode::IdentifierRejected,
            Reason::Quota | Reason::Busy | Reason::Stopping | Reason::Failed => ConnectReturnCode::ServerUnavailable,
            _ => ConnectReturnCode::NotAuthorized,
        }
    }

    pub(super) const fn at_publish(&self) -> PubackReasonCode {
        match self.reason {
            Reason::Login | Reason::LoginMethod | Reason::NotAuthorized => PubackReasonCode::NotAuthorized,
            Reason::Topic | Reason::Wildcard | Reason::Shared => PubackReasonCode::TopicNameInvalid,
            Reason::Quota => PubackReasonCode::QuotaExceeded,
            Reason::PayloadFormat => PubackReasonCode::PayloadFormatInvalid,
            Reason::Failed => PubackReasonCode::UnspecifiedError,
            _ => PubackReasonCode::ImplementationSpecificError,
        }
    }

    pub(super) const fn at_receive(&self) -> PubrecReasonCode {
        match self.at_publish() {
            PubackReasonCode::NotAuthorized => PubrecReasonCode::NotAuthorized,
            PubackReasonCode::TopicNameInvalid => PubrecReasonCode::TopicNameInvalid,
            PubackReasonCode::QuotaExceeded => PubrecReasonCode::QuotaExceeded,
            PubackReasonCode::PayloadFormatInvalid => PubrecReasonCode::PayloadFormatInvalid,
            PubackReasonCode::UnspecifiedError => PubrecReasonCode::UnspecifiedError,
            _ => PubrecReasonCode::ImplementationSpecificError,
        }
    }

    pub(super) const fn at_subscribe(answer: &Result<bool, Self>) -> SubackReasonCode {
        let no = match answer {
            Ok(true) => return SubackReasonCode::GrantedQos1,
            Ok(false) => return SubackReasonCode::GrantedQos0,
            Err(no) => no,
        };
        match no.reason {
            Reason::Login | Reason::LoginMethod | Reason::NotAuthorized => SubackReasonCode::NotAuthorized,
            Reason::Topic => SubackReasonCode::TopicFilterInvalid,
            Reason::Wildcard => SubackReasonCode::WildcardSubscriptionsNotSupported,
            Reason::Shared => SubackReasonCode::SharedSubscriptionsNotSupported,
            Reason::Identifier => SubackReasonCode::SubscriptionIdentifiersNotSupported,
            Reason::Quota => SubackReasonCode::QuotaExceeded,
            Reason::Failed => SubackReasonCode::UnspecifiedError,
            _ => SubackReasonCode::ImplementationSpecificError,
        }
    }

    pub(super) const fn at_the_end(&self) -> DisconnectReasonCode {
        match self.reason {
            Reason::Login | Reason::LoginMethod | Reason::NotAuthorized => DisconnectReasonCode::NotAuthorized,
            Reason::Topic => DisconnectReasonCode::TopicNameInvalid,
            Reason::Quota => DisconnectReasonCode::QuotaExceeded,
            Reason::PayloadFormat => DisconnectReasonCode::PayloadFormatInvalid,
            Reason::Retain => DisconnectReasonCode::RetainNotSupported,
            Reason::Wildcard => DisconnectReasonCode::WildcardSubscriptionsNotSupported,
            Reason::Shared => DisconnectReasonCode::SharedSubscriptionsNotSupported,
            Reason::Identifier => DisconnectReasonCode::SubscriptionIdentifiersNotSupported,
            Reason::TakenOver => DisconnectReasonCode::SessionTakenOver,
            Reason::TooLarge => DisconnectReasonCode::PacketTooLarge,
            Reason::Malformed => DisconnectReasonCode::MalformedPacket,
            Reason::Protocol | Reason::Nameless => DisconnectReasonCode::ProtocolError,
            Reason::Busy => DisconnectReasonCode::ServerBusy,
            Reason::Stopping => DisconnectReasonCode::ServerShuttingDown,
            Reason::CannotBe => DisconnectReasonCode::ImplementationSpecificError,
            Reason::Failed => DisconnectReasonCode::UnspecifiedError,
        }
    }
}

/// What the other doors say, in their words.
impl From<ApiError> for No {
    fn from(error: ApiError) -> Self {
        let (status, message) = error.said();
        let reason = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Reason::NotAuthorized,
            StatusCode::NOT_FOUND => Reason::Topic,
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS => Reason::Quota,
            StatusCode::SERVICE_UNAVAILABLE => Reason::Busy,
            StatusCode::INTERNAL_SERVER_ERROR => Reason::Failed,
            _ => Reason::CannotBe,
        };
        Self::new(reason, message)
    }
}
