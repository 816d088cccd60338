//! Devices at the MQTT door: one of version 3.1.1 that publishes, one of version 5 that subscribes; both with QoS 1.
//!
//! Packets are put together by hand (MQTT 3.1.1 and 5.0, chapters 2 and 3), not by the library that the door is made with.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{Stream, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use veilcast_benches::Outcome;

/// How long an answer may take: others share the machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Whoever is silent for one and a half times this is gone; a subscriber acknowledges, which is not silence.
const KEEP_ALIVE: u16 = 300;
const V3: u8 = 4;
const V5: u8 = 5;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const SUBACK: u8 = 0x90;

/// A connection that has logged in.
#[derive(Debug)]
pub(crate) struct Device {
    socket: TcpStream,
    next: u16,
}

/// A packet that came: the first byte, and what is behind the length.
#[derive(Debug)]
struct Packet {
    kind: u8,
    body: Vec<u8>,
}

/// A message that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    /// User properties by name.
    pub(crate) about: BTreeMap<String, String>,
}

impl Device {
    /// One of version 3.1.1.
    pub(crate) async fn publisher(door: &str, name: &str, key: &str) -> Outcome<Self> {
        Self::login(door, V3, name, key).await
    }

    async fn login(door: &str, version: u8, name: &str, key: &str) -> Outcome<Self> {
        let mut device = Self { socket: TcpStream::connect(door).await?, next: 0 };
        let properties: &[u8] = if version == V5 { &[0] } else { &[] };
        // User name, password, clean session.
        let head = [&text("MQTT")[..], &[version, 0xc2], &KEEP_ALIVE.to_be_bytes(), properties].concat();
        device.say(0x10, &[&head, &text(name), &text("soak"), &text(key)]).await?;
        let answer = device.hear().await?;
        // A session flag, then the return code or reason code.
        if answer.kind == CONNACK && answer.body.get(1) == Some(&0) {
            return Ok(device);
        }
        Err(format!("{name} was not let in: {answer:?}").into())
    }

    /// Publishes a message, and returns once it was acknowledged.
    pub(crate) async fn publish(&mut self, topic: &str, payload: &[u8]) -> Outcome<()> {
        self.next = self.next.checked_add(1).unwrap_or(1);
        let id = self.next.to_be_bytes();
        self.say(PUBLISH | 0x02, &[&text(topic), &id, payload]).await?;
        let answer = self.hear().await?;
        if answer.kind == PUBACK && answer.body == id {
            return Ok(());
        }
        Err(format!("a message was answered with {answer:?}").into())
    }

    /// Takes its leave.
    pub(crate) async fn leave(mut self) -> Outcome<()> {
        self.say(0xe0, &[]).await?;
        Ok(self.socket.shutdown().await?)
    }

    async fn say(&mut self, kind: u8, parts: &[&[u8]]) -> Outcome<()> {
        Ok(self.socket.write_all(&packet(kind, &parts.concat())).await?)
    }

    async fn hear(&mut self) -> Outcome<Packet> {
        tokio::time::timeout(PATIENCE, self.packet()).await.map_err(|_| "the MQTT door did not answer in time")?
    }

    async fn packet(&mut self) -> Outcome<Packet> {
        let kind = self.socket.read_u8().await?;
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = self.socket.read_u8().await?;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
            if shift > 21 {
                return Err("a length of more than four bytes".into());
            }
        }
        let mut body = vec![0; length];
        self.socket.read_exact(&mut body).await?;
        Ok(Packet { kind, body })
    }

    /// The next message, which is acknowledged; `None` once the connection is over or what comes is no message.
    async fn message(&mut self) -> Option<Message> {
        let packet = self.packet().await.ok()?;
        let (id, message) = message(&packet)?;
        self.say(PUBACK, &[&id]).await.ok()?;
        Some(message)
    }
}

/// What is published on a topic once this returns, to a device of version 5.
pub(crate) async fn messages(
    door: &str,
    name: &str,
    key: &str,
    topic: &str,
) -> Outcome<impl Stream<Item = Message> + Send + Unpin + use<>> {
    let mut device = Device::login(door, V5, name, key).await?;
    device.say(0x82, &[&[0, 1, 0], &text(topic), &[1]]).await?;
    let answer = device.hear().await?;
    // Packet id, no properties, QoS 1 granted.
    if answer.kind != SUBACK || answer.body != [0, 1, 0, 1] {
        return Err(format!("{name} was not subscribed: {answer:?}").into());
    }
    Ok(Box::pin(stream::unfold(device, |mut device| async move { Some((device.message().await?, device)) })))
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let (mut packet, mut length) = (vec![kind], body.len());
    loop {
        let more = if length > 0x7f { 0x80 } else { 0 };
        packet.push((length & 0x7f) as u8 | more);
        length >>= 7;
        if length == 0 {
            break;
        }
    }
    packet.extend_from_slice(body);
    packet
}

/// A string, with its length before it.
fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("texts of a run are short");
    [&length.to_be_bytes()[..], text.as_bytes()].concat()
}

/// The packet id and the message of a `PUBLISH` of version 5 with QoS 1.
fn message(packet: &Packet) -> Option<([u8; 2], Message)> {
    if packet.kind & 0xf6 != PUBLISH | 0x02 {
        return None;
    }
    let mut rest = &packet.body[..];
    let topic = string(&mut rest)?;
    let id = take(&mut rest, 2)?.try_into().ok()?;
    let mut properties = Vec::new();
    let mut length = 0;
    for shift in [0, 7, 14, 21] {
        let byte = take(&mut rest, 1)?[0];
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    properties.extend_from_slice(take(&mut rest, length)?);
    Some((id, Message { topic, payload: rest.to_vec(), about: user_properties(&properties)? }))
}

/// Of the properties of a message: all that the door sends are strings and a flag.
fn user_properties(mut properties: &[u8]) -> Option<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    while !properties.is_empty() {
        match take(&mut properties, 1)?[0] {
            // Payload format.
            0x01 => drop(take(&mut properties, 1)?),
            // Content type.
            0x03 => drop(string(&mut properties)?),
            0x26 => drop(found.insert(string(&mut properties)?, string(&mut properties)?)),
            _ => return None,
        }
    }
    Some(found)
}

fn string(bytes: &mut &[u8]) -> Option<String> {
    let length = u16::from_be_bytes(take(bytes, 2)?.try_into().ok()?);
    String::from_utf8(take(bytes, length.into())?.to_vec()).ok()
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_taken_apart_and_one_that_is_cut_off_is_none() {
        let properties = [&[0x26][..], &text("timestamp"), &text("17"), &[0x01, 1, 0x03], &text("text/plain")].concat();
        let length = u8::try_from(properties.len()).unwrap();
        let body = [&text("0xab/meters")[..], &[0, 7, length], &properties, b"{}"].concat();
        let (id, message) = message(&Packet { kind: 0x32, body: body.clone() }).unwrap();
        assert_eq!((id, message.topic.as_str(), &message.payload[..]), ([0, 7], "0xab/meters", &b"{}"[..]));
        assert_eq!(message.about, BTreeMap::from([("timestamp".into(), "17".into())]));
        for end in 0..body.len() - 2 {
            assert!(super::message(&Packet { kind: 0x32, body: body[..end].to_vec() }).is_none());
        }
    }

    #[test]
    fn a_length_takes_a_byte_for_each_seven_bits() {
        assert_eq!(packet(0x30, &[1]), [0x30, 1, 1]);
        assert_eq!(packet(0x30, &[0; 200])[..3], [0x30, 0xc8, 1]);
    }
}
