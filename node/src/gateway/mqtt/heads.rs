//! What the first bytes of a packet say, as they come: how large its parts are, and the flags of its kind. What is too much or none is
//! refused before anybody takes it apart.
//!
//! ```text
//! kind 1 | length 1-4 | CONNECT: name 6, version 1, ...
//!                     | PUBLISH: topic 2 + n | id 2 (QoS 1, 2) | version 5: length of properties 1-4, ...
//! ```
//! (MQTT 5.0, sections 2.1, 3.1.2 and 3.3; 3.1.1 is the same without properties.) Whether the rest of it makes sense is somebody else's question.

use super::HEAD;
use super::no::Reason;

/// Of any packet but `PUBLISH`, bytes: as many topics as there may be in one fit into it.
const SMALL: usize = 64 * 1024;

/// Where in which packet the next byte stands.
pub(super) struct Heads {
    at: At,
    /// Of the packet, after its length.
    left: usize,
    is_v5: bool,
    /// Of the packet, its first byte.
    kind: u8,
    /// How many have begun.
    begun: u64,
}

enum At {
    Kind,
    /// Of the whole packet, or of its properties.
    Length(Number),
    PropertiesLength(Number),
    /// So many bytes before the version.
    Version(usize),
    /// The first half of the topic's length, once it came.
    Topic(Option<u8>),
    /// So many bytes before the properties.
    Skip(usize),
    /// Nothing to look at before the packet ends.
    Rest,
}

/// A number of up to four bytes, seven bits in each, the lowest first (section 1.5.5).
#[derive(Clone, Copy, Default)]
struct Number {
    value: usize,
    shift: u32,
}

impl Number {
    /// With one more byte; whether it was the last.
    fn with(self, byte: u8) -> (Self, bool) {
        let value = self.value | usize::from(byte & 0x7f) << self.shift;
        (Self { value, shift: self.shift + 7 }, byte & 0x80 == 0 || self.shift >= 21)
    }
}

const CONNECT: u8 = 1;
const PUBLISH: u8 = 3;
const PUBREL: u8 = 6;
const SUBSCRIBE: u8 = 8;
const UNSUBSCRIBE: u8 = 10;

/// Whether the lower half of a packet's first byte is what its kind needs (section 2.1.3).
const fn are_flags(kind: u8) -> bool {
    match kind >> 4 {
        PUBLISH => true,
        PUBREL | SUBSCRIBE | UNSUBSCRIBE => kind & 0x0f == 2,
        _ => kind & 0x0f == 0,
    }
}

/// From so many bytes on they are of a packet that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) at: usize,
    pub(super) reason: Reason,
}

impl Heads {
    pub(super) const fn new() -> Self {
        Self { at: At::Kind, left: 0, is_v5: false, kind: 0, begun: 0 }
    }

    /// Bytes that came.
    ///
    /// # Errors
    /// [`Refused`]
    pub(super) fn came(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            match &mut self.at {
                At::Skip(_) | At::Rest => at += self.passes(bytes.len() - at),
                _ => {
                    self.looks(*byte).map_err(|reason| Refused { at, reason })?;
                    at += 1;
                }
            }
        }
        Ok(())
    }

    /// The number of the packet that has begun and is not whole.
    pub(super) const fn incomplete(&self) -> Option<u64> {
        if matches!(self.at, At::Kind) { None } else { Some(self.begun) }
    }

    /// How many of so many bytes nobody looks at.
    fn passes(&mut self, bytes: usize) -> usize {
        let until = match self.at {
            At::Skip(skip) => skip.min(self.left),
            _ => self.left,
        };
        let passed = until.min(bytes);
        self.left -= passed;
        self.at = match self.at {
            _ if self.left == 0 => At::Kind,
            At::Skip(skip) if skip == passed => At::PropertiesLength(Number::default()),
            At::Skip(skip) => At::Skip(skip - passed),
            _ => At::Rest,
        };
        passed
    }

    /// Whether the packet may go on with this byte.
    fn looks(&mut self, byte: u8) -> Result<(), Reason> {
        if !matches!(self.at, At::Kind | At::Length(_)) {
            self.left -= 1;
        }
        self.at = match std::mem::replace(&mut self.at, At::Rest) {
            At::Kind if !are_flags(byte) => return Err(Reason::Malformed),
            At::Kind => {
                self.kind = byte;
                self.begun += 1;
                At::Length(Number::default())
            }
            At::Length(number) => match number.with(byte) {
                (number, false) => At::Length(number),
                (Number { value, .. }, true) => {
                    if self.kind >> 4 != PUBLISH && value > SMALL {
                        return Err(Reason::TooLarge);
                    }
                    self.left = value;
                    match self.kind >> 4 {
                        CONNECT => At::Version(6),
                        PUBLISH if self.is_v5 => At::Topic(None),
                        _ => At::Rest,
                    }
                }
            },
            At::Version(0) => {
                self.is_v5 = byte == 5;
                At::Rest
            }
            At::Version(before) => At::Version(before - 1),
            At::Topic(None) => At::Topic(Some(byte)),
            At::Topic(Some(high)) => {
                let id = if self.kind & 0x06 == 0 { 0 } else { 2 };
                match usize::from(u16::from_be_bytes([high, byte])) + id {
                    0 => At::PropertiesLength(Number::default()),
                    skip => At::Skip(skip),
                }
            }
            At::PropertiesLength(number) => match number.with(byte) {
                (number, false) => At::PropertiesLength(number),
                (Number { value, .. }, true) if value > HEAD => return Err(Reason::TooLarge),
                _ => At::Rest,
            },
            passing @ (At::Skip(_) | At::Rest) => passing,
        };
        if self.left == 0 && !matches!(self.at, At::Kind | At::Length(_)) {
            self.at = At::Kind;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(mut value: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let byte = u8::try_from(value & 0x7f).unwrap();
            value >>= 7;
            bytes.push(if value > 0 { byte | 0x80 } else { byte });
            if value == 0 {
                return bytes;
            }
        }
    }

    fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
        [&[kind], &number(body.len())[..], body].concat()
    }

    fn connect(version: u8) -> Vec<u8> {
        packet(0x10, &[0, 4, b'M', b'Q', b'T', b'T', version, 2, 0, 0, 0, 0])
    }

    fn publish(qos: u8, topic: usize, properties: usize, payload: usize) -> Vec<u8> {
        let id: &[u8] = if qos == 0 { &[] } else { &[0, 1] };
        let topic = [&u16::try_from(topic).unwrap().to_be_bytes()[..], &vec![b't'; topic]].concat();
        let properties = [number(properties), vec![0xff; properties]].concat();
        packet(0x30 | qos << 1, &[&topic[..], id, &properties, &vec![0xff; payload]].concat())
    }

    /// After how many bytes it is refused, and why, however they are cut.
    fn judged(bytes: &[u8]) -> Option<Refused> {
        let found = |size: usize| {
            let (mut heads, mut seen) = (Heads::new(), 0);
            for piece in bytes.chunks(size) {
                match heads.came(piece) {
                    Ok(()) => seen += piece.len(),
                    Err(no) => return Some(Refused { at: seen + no.at, ..no }),
                }
            }
            None
        };
        let whole = found(bytes.len());
        assert!([1, 2, 3, 7, 4096].map(found).iter().all(|cut| *cut == whole));
        whole
    }

    /// After how many bytes it is too large.
    fn refused(bytes: &[u8]) -> Option<usize> {
        let refused = judged(bytes)?;
        assert_eq!(refused.reason, Reason::TooLarge);
        Some(refused.at)
    }

    #[test]
    fn a_packet_whose_properties_are_longer_than_they_may_be_is_refused_once_their_length_came_and_no_other() {
        for qos in [0, 1, 2] {
            for topic in [0, 1, 300, 65_535] {
                let before =
                    [connect(5), publish(qos, topic, HEAD, 5), publish(qos, topic, 0, 0), vec![0xc0, 0]].concat();
                assert_eq!(refused(&before), None);
                let large = [&before[..], &publish(qos, topic, HEAD + 1, 0)].concat();
                let at = refused(&large).unwrap();
                assert!((before.len()..before.len() + 4 + 2 + topic + 2 + 4).contains(&at), "{at} of {}", large.len());
            }
        }
        // Version 3.1.1 has none: whatever looks like their length is payload.
        assert_eq!(refused(&[connect(4), publish(1, 5, HEAD + 1, 9)].concat()), None);
    }

    #[test]
    fn a_packet_is_incomplete_from_its_first_byte_to_before_its_last() {
        let all = [connect(5), vec![0xc0, 0], publish(1, 3, 4, 5), publish(0, 1, 0, 0), vec![0xe0, 0]];
        let mut heads = Heads::new();
        for (packet, number) in all.iter().zip(1..) {
            for byte in packet {
                assert!(heads.incomplete().is_none_or(|begun| begun == number));
                heads.came(&[*byte]).unwrap();
                assert!(heads.incomplete().is_some() || std::ptr::eq(byte, packet.last().unwrap()));
            }
            assert_eq!(heads.incomplete(), None, "{number}");
        }
    }

    #[test]
    fn only_a_message_is_large() {
        for (version, kind) in [(4, 0x82), (5, 0x82), (5, 0xa2), (5, 0xe0), (4, 0x10), (5, 0x62)] {
            assert_eq!(refused(&[connect(version), packet(kind, &vec![0; SMALL])].concat()), None);
            let (before, large) = (connect(version), packet(kind, &vec![0; SMALL + 1]));
            assert_eq!(refused(&[&before[..], &large].concat()), Some(before.len() + 3), "{kind:#x}");
        }
        assert_eq!(refused(&[connect(4), packet(0x30, &vec![0; 1 << 20])].concat()), None);
    }

    #[test]
    fn packets_that_end_too_early_or_begin_with_none_are_left_to_whoever_takes_them_apart() {
        for bytes in [
            [connect(5), packet(0x30, &[]), packet(0x32, &[0]), packet(0x32, &[0xff, 0xff, 1]), packet(0x30, &[0, 0])]
                .concat(),
            packet(0x30, &[0, 1, b't']),
            vec![0xf0, 0xff, 0xff, 0xff],
            packet(0x10, &[0, 4]),
        ] {
            let large = [&bytes[..], &[connect(5), publish(0, 1, HEAD + 1, 0)].concat()].concat();
            assert_eq!(refused(&bytes), None, "{bytes:?}");
            assert!(refused(&large).is_some(), "{bytes:?}");
        }
    }

    #[test]
    fn a_packet_with_flags_that_its_kind_has_not_is_refused_at_its_first_byte() {
        let begins = connect(5);
        for kind in 0..=u8::MAX {
            let needed = match kind >> 4 {
                PUBLISH => kind & 0x0f,
                6 | 8 | 10 => 2,
                _ => 0,
            };
            let refused = (kind & 0x0f != needed).then_some(Refused { at: begins.len(), reason: Reason::Malformed });
            assert_eq!(judged(&[&begins[..], &[kind, 0]].concat()), refused, "{kind:#x}");
        }
    }
}
