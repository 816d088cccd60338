//! How a relay that follows a topic for others says so, so that relays do not hold each other on a topic nobody listens to.
//!
//! Beside the topic it is on `TOPIC~HOP`, where HOP is how many relays lie between its peers and the nearest listener, itself
//! among them. Who is on the topic without such a mark is a listener. A relay follows a topic while one of its peers is a
//! listener or less than [`Hop::COUNT`] relays away from one. Without a listener relays that have only each other name ever
//! longer ways, until none is short enough, and all leave: as in routing by distance, where a small infinity ends the counting.

/// Between a topic and the hop. The topic of a stream part ends with the part's number, so that no topic looks like a mark.
const SEPARATOR: char = '~';

/// How many relays a relay's peers are away from a listener, itself among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hop(u8);

impl Hop {
    /// No way is longer.
    pub(super) const ALL: [Self; 4] = [Self(1), Self(2), Self(3), Self(4)];
    /// How many distances there are: listeners themselves, and each hop.
    pub(super) const COUNT: usize = Self::ALL.len() + 1;

    /// The hop of a relay whose nearest peer is at a distance: 0 is a listener.
    pub(super) fn behind(distance: usize) -> Option<Self> {
        Self::ALL.get(distance).copied()
    }

    /// The mark's name for gossip.
    pub(super) fn mark(self, topic: &str) -> String {
        format!("{topic}{SEPARATOR}{}", self.0)
    }

    /// The topic and the hop that a mark names; `None` where it is no mark.
    pub(super) fn of(name: &str) -> Option<(&str, Self)> {
        let (topic, hop) = name.rsplit_once(SEPARATOR)?;
        let hop = Self::ALL.into_iter().find(|known| known.0.to_string() == hop)?;
        Some((topic, hop))
    }
}

/// The marks that a peer has beside a topic: two for a moment, while it changes one for another.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks(u8);

impl Marks {
    pub(super) fn put(&mut self, Hop(hop): Hop, is_set: bool) {
        match is_set {
            true => self.0 |= 1 << hop,
            false => self.0 &= !(1 << hop),
        }
    }

    /// The farthest that is named: 0 where there is no mark.
    pub(super) fn distance(self) -> usize {
        Hop::ALL.into_iter().rev().find(|hop| self.0 & (1 << hop.0) != 0).map_or(0, |hop| hop.0.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StreamPart;

    #[test]
    fn a_mark_names_its_topic_and_hop_and_nothing_else_is_one() {
        for hop in Hop::ALL {
            assert_eq!(Hop::of(&hop.mark("topic/a")), Some(("topic/a", hop)));
        }
        for name in ["topic/a", "topic/a~0", "topic/a~5", "topic/a~01", "topic/a~", "topic/a~1 ", "topic/a~+1"] {
            assert_eq!(Hop::of(name), None, "{name}");
        }
    }

    #[test]
    fn no_topic_of_a_stream_part_is_a_mark_and_no_mark_is_a_topic() {
        let topic = "/veilcast/1/0x1111111111111111111111111111111111111111/a~1#2";
        assert!(StreamPart::from_topic(topic).is_some());
        assert_eq!(Hop::of(topic), None);
        let [one, ..] = Hop::ALL;
        assert!(StreamPart::from_topic(&one.mark(topic)).is_none());
    }
}
