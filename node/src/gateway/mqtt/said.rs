//! What a client says, the same for both versions of the protocol.

use bytes::Bytes;
use mqtt_protocol_core::mqtt::packet::{Packet, Property, Qos, SubEntry, v3_1_1, v5_0};

/// A packet of a client.
pub(super) enum Said {
    Hello(Hello),
    Publish(Publish),
    /// The second half of a message with QoS 2.
    Release {
        id: u16,
    },
    Subscribe(Subscribe),
    Unsubscribe {
        id: u16,
        filters: Vec<String>,
    },
    Ping,
    /// It goes; with its will, where it asks for that.
    Bye {
        with_will: bool,
    },
    /// What the state of the connection has dealt with already.
    Nothing,
    /// What has no place here.
    Unexpected,
}

/// `CONNECT`
pub(super) struct Hello {
    pub(super) client_id: String,
    /// Whether it must have brought a name: it wants its session kept, in version 3.1.1 (section 3.1.3.1).
    pub(super) needs_name: bool,
    /// The API key, if there is any.
    pub(super) password: Option<Vec<u8>>,
    pub(super) keep_alive: u16,
    pub(super) will: Option<Will>,
    /// Whether it wants to be told why something was not done.
    pub(super) problems: bool,
    /// Whether it asks for another way to log in.
    pub(super) other_login: bool,
}

/// What is published where a client goes without a word.
pub(super) struct Will {
    pub(super) topic: String,
    pub(super) retain: bool,
    pub(super) payload: Vec<u8>,
    pub(super) about: About,
}

/// `PUBLISH`
pub(super) struct Publish {
    pub(super) topic: String,
    pub(super) retain: bool,
    pub(super) delivery: Delivery,
    pub(super) payload: Bytes,
    pub(super) about: About,
}

/// How a message is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// Not at all.
    AtMostOnce,
    AtLeast(u16),
    Exactly(u16),
}

/// `SUBSCRIBE`
pub(super) struct Subscribe {
    pub(super) id: u16,
    pub(super) filters: Vec<Filter>,
    pub(super) about: About,
    /// Whether it names what it subscribes to by numbers.
    pub(super) numbered: bool,
}

/// One thing to subscribe to.
pub(super) struct Filter {
    pub(super) topic: String,
    pub(super) acknowledged: bool,
    pub(super) no_local: bool,
}

/// What a packet of version 5 says beside what is in it.
#[derive(Clone, Default)]
pub(super) struct About {
    pub(super) content_type: Option<String>,
    /// It says that its payload is UTF-8.
    pub(super) is_text: bool,
    user: Vec<(&'static str, String)>,
}

/// What is understood of what an application says under names of its own; nothing else of it is kept.
const NAMES: [&str; 4] = ["partition", "partitionKey", "timestamp", "partitions"];

impl About {
    fn of(properties: &[Property]) -> Self {
        let mut about = Self::default();
        for property in properties {
            match property {
                Property::ContentType(kind) => about.content_type = Some(kind.val().to_owned()),
                Property::PayloadFormatIndicator(format) => about.is_text = format.val() == 1,
                Property::UserProperty(pair) => about.note(pair.key(), pair.val()),
                _ => {}
            }
        }
        about
    }

    /// The first of each name counts.
    fn note(&mut self, name: &str, value: &str) {
        let known = NAMES.into_iter().find(|known| *known == name);
        if let Some(name) = known.filter(|name| self.user(name).is_none()) {
            self.user.push((name, value.to_owned()));
        }
    }

    /// What an application says under one of these names.
    pub(super) fn user(&self, name: &str) -> Option<&str> {
        self.user.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
    }
}

impl Said {
    pub(super) fn of(packet: Packet) -> Self {
        match packet {
            Packet::V3_1_1Connect(hello) => Self::Hello(Hello::v3(&hello)),
            Packet::V5_0Connect(hello) => Self::Hello(Hello::v5(&hello)),
            Packet::V3_1_1Publish(publish) => {
                let about = About::default();
                let (topic, id) = (publish.topic_name(), publish.packet_id());
                Self::published(topic, publish.retain(), publish.qos(), id, publish.payload().as_slice(), about)
            }
            Packet::V5_0Publish(publish) => {
                let about = About::of(publish.props());
                let (topic, id) = (publish.topic_name(), publish.packet_id());
                Self::published(topic, publish.retain(), publish.qos(), id, publish.payload().as_slice(), about)
            }
            Packet::V3_1_1Pubrel(release) => Self::numbered(release.packet_id(), |id| Self::Release { id }),
            Packet::V5_0Pubrel(release) => Self::numbered(release.packet_id(), |id| Self::Release { id }),
            Packet::V3_1_1Subscribe(subscribe) => {
                Self::subscribed(subscribe.packet_id(), subscribe.entries(), About::default(), false)
            }
            Packet::V5_0Subscribe(subscribe) => {
                let numbered = |property: &Property| matches!(property, Property::SubscriptionIdentifier(_));
                let (properties, id) = (subscribe.props(), subscribe.packet_id());
                let numbered = properties.iter().any(numbered);
                Self::subscribed(id, subscribe.entries(), About::of(properties), numbered)
            }
            Packet::V3_1_1Unsubscribe(unsubscribe) => {
                let filters = unsubscribe.entries().iter().map(|filter| filter.as_str().to_owned()).collect();
                Self::numbered(unsubscribe.packet_id(), |id| Self::Unsubscribe { id, filters })
            }
            Packet::V5_0Unsubscribe(unsubscribe) => {
                let filters = unsubscribe.entries().iter().map(|filter| filter.as_str().to_owned()).collect();
                Self::numbered(unsubscribe.packet_id(), |id| Self::Unsubscribe { id, filters })
            }
            Packet::V3_1_1Pingreq(_) | Packet::V5_0Pingreq(_) => Self::Ping,
            Packet::V3_1_1Disconnect(_) => Self::Bye { with_will: false },
            // Anything but "normal" keeps the will: only that deletes it (section 3.14.4).
            Packet::V5_0Disconnect(bye) => {
                Self::Bye { with_will: bye.reason_code().is_some_and(|reason| reason as u8 != 0) }
            }
            Packet::V3_1_1Puback(_) | Packet::V5_0Puback(_) => Self::Nothing,
            _ => Self::Unexpected,
        }
    }

    /// No packet has the id 0.
    fn numbered(id: u16, said: impl FnOnce(u16) -> Self) -> Self {
        if id == 0 { Self::Unexpected } else { said(id) }
    }

    fn published(topic: &str, retain: bool, qos: Qos, id: Option<u16>, payload: &[u8], about: About) -> Self {
        let delivery = match (qos, id) {
            (Qos::AtMostOnce, _) => Delivery::AtMostOnce,
            (_, None | Some(0)) => return Self::Unexpected,
            (Qos::AtLeastOnce, Some(id)) => Delivery::AtLeast(id),
            (Qos::ExactlyOnce, Some(id)) => Delivery::Exactly(id),
        };
        let payload = Bytes::copy_from_slice(payload);
        Self::Publish(Publish { topic: topic.to_owned(), retain, delivery, payload, about })
    }

    fn subscribed(id: u16, entries: &[SubEntry], about: About, numbered: bool) -> Self {
        let filters = entries.iter().map(Filter::of).collect();
        Self::numbered(id, |id| Self::Subscribe(Subscribe { id, filters, about, numbered }))
    }
}

impl Filter {
    fn of(entry: &SubEntry) -> Self {
        let options = entry.sub_opts();
        Self {
            topic: entry.topic_filter().to_owned(),
            acknowledged: options.qos() != Qos::AtMostOnce,
            no_local: options.nl(),
        }
    }
}

impl Hello {
    fn v3(hello: &v3_1_1::Connect) -> Self {
        let will = hello.will_topic().map(|topic| Will {
            topic: topic.to_owned(),
            retain: hello.will_retain(),
            payload: hello.will_payload().unwrap_or_default().to_vec(),
            about: About::default(),
        });
        Self {
            client_id: hello.client_id().to_owned(),
            needs_name: !hello.clean_session(),
            password: hello.password().map(<[u8]>::to_vec),
            keep_alive: hello.keep_alive(),
            will,
            problems: false,
            other_login: false,
        }
    }

    fn v5(hello: &v5_0::Connect) -> Self {
        let will = hello.will_topic().map(|topic| Will {
            topic: topic.to_owned(),
            retain: hello.will_retain(),
            payload: hello.will_payload().unwrap_or_default().to_vec(),
            about: About::of(hello.will_props()),
        });
        let silent =
            |property: &Property| matches!(property, Property::RequestProblemInformation(asked) if asked.val() == 0);
        let other = |property: &Property| matches!(property, Property::AuthenticationMethod(_));
        Self {
            client_id: hello.client_id().to_owned(),
            needs_name: false,
            password: hello.password().map(<[u8]>::to_vec),
            keep_alive: hello.keep_alive(),
            will,
            problems: !hello.props().iter().any(silent),
            other_login: hello.props().iter().any(other),
        }
    }
}
