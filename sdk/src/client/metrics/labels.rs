//! What the figures of a client are told apart by.

use crate::exchange::{AskFailure, Dropped};
use crate::metrics::label;
use crate::network::Verdict;
use crate::permission::Refusal;
use crate::subscriber::Unreadable;

label! {
    /// What an answer says: about one key, or, of a whole answer, the best that it says.
    Outcome as "outcome" {
        Granted = "granted",
        Denied = "denied",
        NotYet = "not_yet",
        Expired = "expired",
        UnknownKey = "unknown_key",
        Throttled = "throttled",
        Policy = "policy",
        Unavailable = "unavailable",
        UnacceptableAlgorithm = "unacceptable_algorithm",
        /// Of a span without keys.
        Nothing = "nothing",
    }
}

label! {
    /// Why a request for keys has no answer that counts.
    Unanswered as "outcome" {
        TimedOut = "timed_out",
        Unreachable = "unreachable",
        BadAnswer = "bad_answer",
        NotSent = "not_sent",
    }
}

label! {
    /// Why a request got no answer from here.
    Turned as "reason" {
        Malformed = "malformed",
        Misdirected = "misdirected",
        Stale = "stale",
        Replayed = "replayed",
        Flooded = "flooded",
        Signature = "signature",
    }
}

label! {
    /// Why a message is not handed to an application.
    Lost as "reason" {
        SlowReader = "slow_reader",
        KeyRefused = "key_refused",
        KeyUnavailable = "key_unavailable",
        KeyNotAgreed = "key_not_agreed",
        WrongKey = "wrong_key",
        TooManyParked = "too_many_parked",
        NotAPublisher = "not_a_publisher",
    }
}

label! {
    /// What became of a frame of gossip.
    Sifted as "verdict" { Accepted = "accepted", Ignored = "ignored", Rejected = "rejected" }
}

label! {
    /// What a message waits for.
    Awaited as "for" { Key = "key", Permission = "permission" }
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Denied => Self::Denied,
            Refusal::NotYet { .. } => Self::NotYet,
            Refusal::Expired { .. } => Self::Expired,
            Refusal::UnknownKey => Self::UnknownKey,
            Refusal::Throttled { .. } => Self::Throttled,
            Refusal::Policy => Self::Policy,
            Refusal::Unavailable { .. } => Self::Unavailable,
            Refusal::UnacceptableAlgorithm => Self::UnacceptableAlgorithm,
        }
    }
}

impl<T> From<&Result<T, Refusal>> for Outcome {
    fn from(answer: &Result<T, Refusal>) -> Self {
        answer.as_ref().map_or_else(|refusal| (*refusal).into(), |_| Self::Granted)
    }
}

impl From<AskFailure> for Unanswered {
    fn from(failure: AskFailure) -> Self {
        match failure {
            AskFailure::Timeout => Self::TimedOut,
            AskFailure::Unreachable => Self::Unreachable,
            AskFailure::BadAnswer => Self::BadAnswer,
            AskFailure::AskedToWait | AskFailure::Unmade | AskFailure::Overload => Self::NotSent,
        }
    }
}

impl From<&Dropped> for Turned {
    fn from(why: &Dropped) -> Self {
        match why {
            Dropped::Malformed(_) => Self::Malformed,
            Dropped::Misdirected => Self::Misdirected,
            Dropped::Stale => Self::Stale,
            Dropped::Replayed => Self::Replayed,
            Dropped::Flooded => Self::Flooded,
            Dropped::Signature(_) => Self::Signature,
        }
    }
}

impl From<Unreadable> for Lost {
    fn from(why: Unreadable) -> Self {
        match why {
            Unreadable::KeyRefused => Self::KeyRefused,
            Unreadable::KeyUnavailable => Self::KeyUnavailable,
            Unreadable::KeyNotAgreed => Self::KeyNotAgreed,
            Unreadable::WrongKey => Self::WrongKey,
            Unreadable::TooManyParked => Self::TooManyParked,
        }
    }
}

impl<T> From<&Result<T, Verdict>> for Sifted {
    fn from(verdict: &Result<T, Verdict>) -> Self {
        match verdict {
            Ok(_) => Self::Accepted,
            Err(Verdict::Ignore) => Self::Ignored,
            Err(Verdict::Reject) => Self::Rejected,
        }
    }
}
