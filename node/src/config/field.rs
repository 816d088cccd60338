//! One value of a config file: what it has to be, and what is said where it is something else. The value itself is never repeated.

use toml::{Spanned, Value};

use super::fault::Fault;

/// A value and its name, `section.key`.
pub(super) struct Field {
    name: String,
    value: Spanned<Value>,
}

/// Understands a value, where there is one.
pub(super) fn read<T>(
    section: &str,
    key: &str,
    value: Option<Spanned<Value>>,
    understand: impl FnOnce(&Field) -> Result<T, Fault>,
) -> Result<Option<T>, Fault> {
    value.map(|value| understand(&Field { name: format!("{section}.{key}"), value })).transpose()
}

impl Field {
    /// That it cannot be used.
    pub(super) fn fault(&self, what: impl std::fmt::Display) -> Fault {
        Fault::new(self.value.span().start, format!("{}: {what}", self.name))
    }

    /// Text that something can be made of.
    pub(super) fn parsed<T>(&self, expected: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, Fault> {
        let made = self.value.as_ref().as_str().and_then(parse);
        made.ok_or_else(|| self.fault(format!("expected {expected}")))
    }

    /// A list of such texts, or a single one.
    pub(super) fn list<T>(&self, expected: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, Fault> {
        let Value::Array(list) = self.value.as_ref() else { return Ok(vec![self.parsed(expected, parse)?]) };
        let made: Option<Vec<T>> = list.iter().map(|value| value.as_str().and_then(&parse)).collect();
        made.ok_or_else(|| self.fault(format!("expected {expected}, or a list of such")))
    }

    /// A whole number from `least` on.
    pub(super) fn number<N: TryFrom<i64>>(&self, least: i64) -> Result<N, Fault> {
        let number = self.value.as_ref().as_integer().filter(|number| *number >= least);
        let number = number.and_then(|number| N::try_from(number).ok());
        number.ok_or_else(|| self.fault(format!("expected a whole number from {least} on")))
    }

    /// Yes or no.
    pub(super) fn flag(&self) -> Result<bool, Fault> {
        self.value.as_ref().as_bool().ok_or_else(|| self.fault("expected true or false"))
    }
}
