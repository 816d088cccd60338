//! Times as people type them: RFC 3339, unix milliseconds, or a span from now such as `2h`, `30d`, `90s`, `1h30m`.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo};
use veilcast::{Period, Timestamp};

/// Below this a number of milliseconds is a moment before March 1973: somebody typed seconds.
const SURELY_SECONDS: u64 = 100_000_000_000;

/// Nobody means a longer span; what has no end is given none.
const LONGEST: Duration = Duration::from_secs(365_250 * 86_400);

/// A moment as it was typed: fixed, or counted from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// This moment.
    At(Timestamp),
    /// This long after the command ran.
    After(Duration),
}

impl When {
    fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(moment) => moment,
            Self::After(span) => now.plus(span),
        }
    }

    /// Where the past is meant: a span is so long ago.
    pub(crate) fn in_the_past(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(moment) => moment,
            Self::After(span) => now.minus(span),
        }
    }
}

/// The period of a grant: `--from`, then `--until` or `--for`, which counts from `--from`, or from now.
pub(crate) fn period(from: Option<When>, until: Option<When>, lasting: Option<Duration>, now: Timestamp) -> Period {
    let start = from.map(|from| from.resolve(now));
    let end = match lasting {
        Some(span) => Some(start.unwrap_or(now).plus(span)),
        None => until.map(|until| until.resolve(now)),
    };
    Period { start, end }
}

/// Parses any of the three ways to write a moment.
pub(crate) fn parse_when(text: &str) -> Result<When, TimeError> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return parse_millis(text).map(When::At);
    }
    if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        let millis = u64::try_from(moment.as_millisecond()).map_err(|_| TimeError::BeforeEpoch { got: text.into() })?;
        return Ok(When::At(Timestamp::from_millis(millis)));
    }
    if looks_like_a_date(text) {
        return Err(TimeError::Date { got: text.into() });
    }
    parse_span(text).map(When::After).map_err(|error| match error {
        TimeError::Span { got } => TimeError::Moment { got },
        other => other,
    })
}

/// The same, where the past is meant and a span is one that ended just now.
pub(crate) fn parse_past(text: &str) -> Result<When, TimeError> {
    parse_when(text).map_err(|error| match error {
        TimeError::Moment { got } => TimeError::PastMoment { got },
        TimeError::NotForward { got } => TimeError::NotAgo { got },
        other => other,
    })
}

/// Parses a span such as `2h`, `30d`, `90s` or `1h30m`. A day has 24 hours, a week 7 days; months and years are refused,
/// because they have no fixed length.
pub(crate) fn parse_span(text: &str) -> Result<Duration, TimeError> {
    let not_a_span = || match has_too_many_digits(text) {
        true => TimeError::TooLong { got: text.into() },
        false => TimeError::Span { got: text.into() },
    };
    let span = text.parse::<Span>().map_err(|_| not_a_span())?;
    if span.get_months() != 0 || span.get_years() != 0 {
        return Err(TimeError::NoFixedLength { got: text.into() });
    }
    let signed = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| not_a_span())?;
    match Duration::try_from(signed) {
        Ok(duration) if duration > LONGEST => Err(TimeError::TooLong { got: text.into() }),
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(TimeError::NotForward { got: text.into() }),
    }
}

/// Whether it would be a span if its numbers were smaller.
fn has_too_many_digits(text: &str) -> bool {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (mut smaller, mut rest) = (String::new(), text);
    while let Some(next) = rest.chars().next() {
        let number = digits(rest);
        if number > 0 {
            smaller.push('1');
            rest = &rest[number..];
        } else {
            smaller.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    smaller.parse::<Span>().is_ok()
}

/// A moment for people: RFC 3339 in UTC. What no calendar reaches is shown as milliseconds.
pub(crate) fn show(moment: Timestamp) -> String {
    let millis = i64::try_from(moment.as_millis()).ok();
    match millis.and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok()) {
        Some(known) => known.to_string(),
        None => format!("{} ms", moment.as_millis()),
    }
}

/// A span for people, as it can be typed again, in the largest unit that gives a whole number.
pub(crate) fn show_span(span: Duration) -> String {
    let millis = span.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    let fits = units.into_iter().find(|(unit, _)| millis >= *unit && millis.is_multiple_of(*unit));
    fits.map_or_else(|| "0s".into(), |(unit, name)| format!("{}{name}", millis / unit))
}

fn parse_millis(text: &str) -> Result<Timestamp, TimeError> {
    let out_of_range = || TimeError::OutOfRange { got: text.into() };
    let millis = text.parse::<u64>().map_err(|_| out_of_range())?;
    if millis < SURELY_SECONDS {
        return Err(TimeError::Seconds { got: text.into() });
    }
    let signed = i64::try_from(millis).map_err(|_| out_of_range())?;
    jiff::Timestamp::from_millisecond(signed).map_err(|_| out_of_range())?;
    Ok(Timestamp::from_millis(millis))
}

/// `2027-01-31` or `2027-01-31T08:00`: a date, but not a moment until it names its offset from UTC.
fn looks_like_a_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 8 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-'
}

/// Why text is not a time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TimeError {
    #[error(
        "{got:?} is no time; write RFC 3339 (2027-01-31T08:00:00Z), unix milliseconds or a span from now (2h, 30d, 1h30m)"
    )]
    Moment { got: String },
    #[error(
        "{got:?} is no time; write RFC 3339 (2027-01-31T08:00:00Z), unix milliseconds or how long ago it was (2h, 30d, 1h30m)"
    )]
    PastMoment { got: String },
    #[error(
        "{got:?} is not how long ago something was; write for example 2h or 30d, and for now leave the option away"
    )]
    NotAgo { got: String },
    #[error("{got:?} is a date without a moment; write it whole, with its offset from UTC: 2027-01-31T08:00:00Z")]
    Date { got: String },
    #[error("{got:?} is no span; write for example 90s, 2h, 30d or 1h30m")]
    Span { got: String },
    #[error("{got:?} has no fixed length; write it in days")]
    NoFixedLength { got: String },
    #[error("a span goes forward and is longer than nothing, {got:?} does not")]
    NotForward { got: String },
    #[error("{got:?} is longer than a thousand years; what is to have no end is given none")]
    TooLong { got: String },
    #[error("{got} looks like unix seconds; unix milliseconds have three digits more")]
    Seconds { got: String },
    #[error("{got} lies beyond the calendar (year 9999)")]
    OutOfRange { got: String },
    #[error("{got:?} lies before 1970; choose a later time")]
    BeforeEpoch { got: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_moment_is_rfc_3339_or_unix_milliseconds_or_a_span_from_now() {
        let at = |millis| Ok(When::At(Timestamp::from_millis(millis)));
        assert_eq!(parse_when("2027-01-15T08:00:00Z"), at(1_800_000_000_000));
        assert_eq!(parse_when("2027-01-15T10:00:00.250+02:00"), at(1_800_000_000_250));
        assert_eq!(parse_when("1800000000000"), at(1_800_000_000_000));
        assert_eq!(parse_when("2h"), Ok(When::After(secs(7200))));
    }

    #[test]
    fn where_the_past_is_meant_the_error_says_how_to_write_it() {
        assert_eq!(parse_past("2h"), Ok(When::After(secs(7200))));
        assert!(parse_past("yesterday").unwrap_err().to_string().contains("how long ago"));
        assert!(parse_past("0d").unwrap_err().to_string().contains("for now leave the option away"));
    }

    #[test]
    fn spans_add_up_their_units() {
        for (text, expected) in [("90s", 90), ("2h", 7200), ("30d", 2_592_000), ("1h30m", 5400), ("1w", 604_800)] {
            assert_eq!(parse_span(text), Ok(secs(expected)), "{text}");
        }
        assert_eq!(parse_span("1500ms"), Ok(Duration::from_millis(1500)));
    }

    #[test]
    fn what_is_no_time_is_an_error_that_says_how_to_write_one() {
        assert!(matches!(parse_when("tomorrow"), Err(TimeError::Moment { .. })));
        assert!(matches!(parse_when(""), Err(TimeError::Moment { .. })));
        assert!(matches!(parse_when("2027-01-31"), Err(TimeError::Date { .. })));
        assert!(matches!(parse_when("2027-01-31T08:00"), Err(TimeError::Date { .. })));
        assert!(matches!(parse_when("2027-13-31T08:00:00Z"), Err(TimeError::Date { .. })));
        assert!(matches!(parse_when("1800000000"), Err(TimeError::Seconds { .. })));
        assert!(matches!(parse_when("99999999999999999999999"), Err(TimeError::OutOfRange { .. })));
        assert!(matches!(parse_when("9999999999999999"), Err(TimeError::OutOfRange { .. })));
        assert!(matches!(parse_when("1960-01-01T00:00:00Z"), Err(TimeError::BeforeEpoch { .. })));
        assert!(matches!(parse_when("3mo"), Err(TimeError::NoFixedLength { .. })));
        assert!(matches!(parse_span("-2h"), Err(TimeError::NotForward { .. })));
        assert!(matches!(parse_span("0s"), Err(TimeError::NotForward { .. })));
        assert!(matches!(parse_span("2 parsecs"), Err(TimeError::Span { .. })));
        for long in ["400000d", "99999999999d", "1h99999999999999999999m", "30000000000000000000s"] {
            assert!(matches!(parse_span(long), Err(TimeError::TooLong { .. })), "{long}");
        }
        assert!(matches!(parse_when("99999999999d"), Err(TimeError::TooLong { .. })));
    }

    #[test]
    fn for_counts_from_the_start_or_from_now_where_none_is_given() {
        let day = secs(86_400);
        assert_eq!(period(None, None, Some(day), NOW), Period { start: None, end: Some(NOW.plus(day)) });
        let start = NOW.plus(secs(60));
        let later = period(Some(When::At(start)), None, Some(day), NOW);
        assert_eq!(later, Period { start: Some(start), end: Some(start.plus(day)) });
        assert_eq!(period(None, Some(When::After(day)), None, NOW).end, Some(NOW.plus(day)));
        assert_eq!(period(None, None, None, NOW), Period::ALWAYS);
    }

    #[test]
    fn a_span_is_shown_as_it_can_be_typed_again() {
        for (text, millis) in [("30d", 2_592_000_000), ("36h", 129_600_000), ("90m", 5_400_000), ("1500ms", 1_500)] {
            assert_eq!(show_span(Duration::from_millis(millis)), text);
            assert_eq!(parse_span(text), Ok(Duration::from_millis(millis)));
        }
    }

    #[test]
    fn where_the_past_is_meant_a_span_is_so_long_ago() {
        assert_eq!(When::After(secs(60)).in_the_past(NOW), NOW.minus(secs(60)));
        assert_eq!(When::At(NOW).in_the_past(NOW.plus(secs(9))), NOW);
    }

    #[test]
    fn a_moment_is_shown_as_it_can_be_typed_again() {
        assert_eq!(show(NOW), "2027-01-15T08:00:00Z");
        assert_eq!(parse_when(&show(NOW)), Ok(When::At(NOW)));
        assert_eq!(show(Timestamp::from_millis(u64::MAX)), format!("{} ms", u64::MAX));
    }
}
