//! Amounts of a chain's coin for people.

/// Wei in a gwei, and gwei in a coin.
const BILLION: u128 = 1_000_000_000;

/// An amount in coins, up to the gwei it begins: a price is never shown smaller than it is.
pub(crate) fn show(wei: u128, coin: Option<&str>) -> String {
    format!("{} {}", decimal(wei.div_ceil(BILLION)), coin.unwrap_or("of the chain's coin"))
}

/// A price of gas.
pub(super) fn show_gwei(wei: u128) -> String {
    format!("{} gwei", decimal(wei))
}

/// A number of billionths.
fn decimal(billionths: u128) -> String {
    let (whole, rest) = (billionths / BILLION, billionths % BILLION);
    let text = format!("{whole}.{rest:09}");
    text.trim_end_matches('0').trim_end_matches('.').into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_shown_in_coins_and_never_smaller_than_it_is() {
        let coin = BILLION * BILLION;
        assert_eq!(show(coin, Some("POL")), "1 POL");
        assert_eq!(show(coin * 3 / 2, Some("POL")), "1.5 POL");
        assert_eq!(show(10 * coin + 1, Some("POL")), "10.000000001 POL");
        assert_eq!(show(0, None), "0 of the chain's coin");
        assert_eq!(show(u128::MAX, Some("POL")), "340282366920938463463.374607432 POL");
        assert_eq!(show_gwei(30_500_000_000), "30.5 gwei");
    }
}
