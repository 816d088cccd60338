//! Numbers in sentences.

/// `1 key`, `2 keys`.
pub(crate) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn one_is_no_plural_and_nothing_is() {
        let keys = |number| counted(number, "key", "keys");
        assert_eq!([keys(0), keys(1), keys(2)], ["0 keys", "1 key", "2 keys"]);
    }
}
