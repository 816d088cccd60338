//! The name of a key.

use std::{fmt, str::FromStr, sync::Arc};

use rand_core::CryptoRng;

use crate::KeyError;

pub(crate) const MAX_ID_LEN: usize = 64;

/// Names one key of one publisher and stream.
///
/// Random ids are 128 bits as 32 lower-case hex characters; people who agree on a key beforehand may use any 1 to 64
/// visible ASCII characters (`!` to `~`). An id is public: it stands in messages, requests and logs.
///
/// Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(Arc<str>);

impl KeyId {
    /// Takes an id as it was written.
    ///
    /// # Errors
    /// [`KeyError::IdEmpty`], [`KeyError::IdTooLong`] or [`KeyError::IdCharacter`], whichever rule is broken.
    pub fn new(text: &str) -> Result<Self, KeyError> {
        if text.is_empty() {
            return Err(KeyError::IdEmpty);
        }
        if text.len() > MAX_ID_LEN {
            return Err(KeyError::IdTooLong { got: text.len() });
        }
        match text.char_indices().find(|(_, c)| !c.is_ascii_graphic()) {
            Some((at, found)) => Err(KeyError::IdCharacter { found, at }),
            None => Ok(Self(text.into())),
        }
    }

    /// 128 random bits. Takes `&mut dyn CryptoRng` as well as any concrete generator.
    pub fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        Self(hex::encode(bytes).into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyId").field(&self.as_str()).finish()
    }
}

impl FromStr for KeyId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::new(text)
    }
}

impl TryFrom<&str> for KeyId {
    type Error = KeyError;

    fn try_from(text: &str) -> Result<Self, KeyError> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_id_is_an_error_naming_the_rule() {
        let fault = KeyId::new("").unwrap_err();
        assert_eq!(fault, KeyError::IdEmpty);
        assert_eq!(fault.to_string(), "a key id has at least 1 character, this one is empty");
    }

    #[test]
    fn sixty_four_characters_are_an_id_and_one_more_is_an_error_naming_the_rule() {
        assert!(KeyId::new(&"k".repeat(64)).is_ok());
        let fault = KeyId::new(&"k".repeat(65)).unwrap_err();
        assert_eq!(fault, KeyError::IdTooLong { got: 65 });
        assert_eq!(fault.to_string(), "a key id has at most 64 bytes, this one has 65");
    }

    #[test]
    fn only_visible_ascii_makes_an_id() {
        assert!(KeyId::new("!~").is_ok());
        for (text, found, at) in
            [("a b", ' ', 1), ("a\nb", '\n', 1), ("\0", '\0', 0), ("ab\u{7f}", '\u{7f}', 2), ("né", 'é', 1)]
        {
            assert_eq!(KeyId::new(text).unwrap_err(), KeyError::IdCharacter { found, at }, "{text:?}");
        }
        let shown = KeyId::new("a\u{1b}[2J").unwrap_err().to_string();
        assert_eq!(shown, r"a key id holds visible ASCII (0x21 to 0x7e) only, but '\u{1b}' stands at byte 1");
    }

    #[test]
    fn a_random_id_is_32_lower_case_hex_characters_and_differs_from_the_next() {
        let (a, b) = (KeyId::random(&mut rand::rng()), KeyId::random(&mut rand::rng()));
        assert_eq!(a.as_str().len(), 32);
        assert!(a.as_str().bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')));
        assert_ne!(a, b);
    }

    #[test]
    fn a_borrowed_dynamic_generator_works() {
        let mut rng = rand::rng();
        let rng: &mut dyn CryptoRng = &mut rng;
        assert_eq!(KeyId::random(rng).as_str().len(), 32);
    }

    #[test]
    fn an_id_parses_from_what_it_prints() {
        let id = KeyId::new("summer-2031#7").unwrap();
        assert_eq!(id.to_string().parse::<KeyId>().unwrap(), id);
        assert_eq!(KeyId::try_from("summer-2031#7").unwrap(), id);
        assert_eq!(format!("{id:?}"), r#"KeyId("summer-2031#7")"#);
    }
}
