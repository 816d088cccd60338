//! What can be done on the chain, as calls of the contract.

use ethers_core::types::{Bytes, U256};

use super::WriteError;
use crate::identity::UserId;
use crate::permission::ethereum::abi;
use crate::permission::{Period, Permission};
use crate::stream::{MAX_PARTITIONS, StreamId};
use crate::time::Timestamp;

/// Something to do on the chain. Each touches the one permission it names and no other.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Makes the stream `account/path`; the account gets every permission.
    CreateStream {
        /// Its path below the account's address.
        path: String,
        /// How many partitions, 1 to 100.
        partitions: u32,
    },
    /// Gives or renews a permission, until the period's end or for ever.
    Grant {
        /// On which stream.
        stream: StreamId,
        /// To whom.
        user: UserId,
        /// What.
        permission: Permission,
        /// Until when. The contract knows no start.
        period: Period,
    },
    /// Takes a permission back.
    Revoke {
        /// On which stream.
        stream: StreamId,
        /// From whom.
        user: UserId,
        /// What.
        permission: Permission,
    },
    /// Lets everybody read, or only those with a grant.
    SetPublic {
        /// Which stream.
        stream: StreamId,
        /// Whether everybody may.
        public: bool,
    },
}

impl Action {
    /// The call of the contract that does it for `account`, at `now`.
    ///
    /// # Errors
    /// [`WriteError`]: it makes no sense, or means something else.
    pub(super) fn call(&self, account: UserId, now: Timestamp) -> Result<Bytes, WriteError> {
        match self {
            Self::CreateStream { path, partitions } => create(account, path, *partitions),
            Self::Grant { stream, user, permission, period } => {
                somebody(*user)?;
                period.grantable_at(now)?;
                if let Some(from) = period.start.filter(|start| now.as_secs() < start.as_secs()) {
                    return Err(WriteError::StartsLater { from });
                }
                Ok(match period.end {
                    Some(end) => abi::set_expiration(stream, *user, *permission, U256::from(end.as_secs())),
                    None => abi::grant(stream, *user, *permission),
                })
            }
            Self::Revoke { stream, user, permission } => {
                somebody(*user)?;
                Ok(abi::revoke(stream, *user, *permission))
            }
            Self::SetPublic { stream, public: true } => Ok(abi::grant_public(stream, Permission::Subscribe)),
            Self::SetPublic { stream, public: false } => Ok(abi::revoke_public(stream, Permission::Subscribe)),
        }
    }
}

fn create(account: UserId, path: &str, partitions: u32) -> Result<Bytes, WriteError> {
    if partitions == 0 || partitions > MAX_PARTITIONS {
        return Err(WriteError::Partitions { got: partitions });
    }
    let stream = StreamId::of(account, path)?;
    let path = stream.as_str().split_once('/').map_or("", |(_, path)| path);
    Ok(abi::create_stream(path, &serde_json::json!({ "partitions": partitions }).to_string()))
}

/// Address zero is everybody to the contract: whoever names it as a user has made a mistake, and a dear one.
fn somebody(user: UserId) -> Result<(), WriteError> {
    if user == UserId::from_bytes([0; UserId::LEN]) { Err(WriteError::Everybody) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permission::PeriodError;

    const NOW: Timestamp = Timestamp::from_secs(1000);

    fn grant(user: u8, period: Period) -> Result<Bytes, WriteError> {
        let owner = UserId::from_bytes([1; 20]);
        let stream = StreamId::of(owner, "s").unwrap();
        let (user, permission) = (UserId::from_bytes([user; 20]), Permission::Subscribe);
        Action::Grant { stream, user, permission, period }.call(owner, NOW)
    }

    #[test]
    fn a_grant_that_ends_in_the_past_or_before_it_starts_or_starts_later_is_not_sent() {
        let at = Timestamp::from_secs;
        let period = |start, end| Period { start, end };
        assert!(grant(2, Period::until(at(1000))).is_ok());
        assert!(grant(2, period(Some(at(1000)), Some(at(1000)))).is_ok());
        let past = grant(2, Period::until(at(999)));
        assert!(matches!(past, Err(WriteError::Period(PeriodError::EndInThePast { .. }))), "{past:?}");
        let backwards = grant(2, period(Some(at(3000)), Some(at(2000))));
        assert!(matches!(backwards, Err(WriteError::Period(PeriodError::EndsBeforeStart { .. }))), "{backwards:?}");
        let later = grant(2, period(Some(at(1001)), Some(at(2000))));
        assert!(matches!(later, Err(WriteError::StartsLater { from }) if from == at(1001)), "{later:?}");
    }

    #[test]
    fn nobody_becomes_everybody_by_mistake() {
        assert!(matches!(grant(0, Period::ALWAYS), Err(WriteError::Everybody)));
        let owner = UserId::from_bytes([1; 20]);
        let (stream, user) = (StreamId::of(owner, "s").unwrap(), UserId::from_bytes([0; 20]));
        let revoke = Action::Revoke { stream, user, permission: Permission::Subscribe };
        assert!(matches!(revoke.call(owner, NOW), Err(WriteError::Everybody)));
    }

    #[test]
    fn a_stream_without_a_path_or_with_too_many_partitions_is_not_made() {
        let create = |path: &str, partitions| {
            let path = path.to_string();
            Action::CreateStream { path, partitions }.call(UserId::from_bytes([1; 20]), NOW)
        };
        assert!(create("s", 100).is_ok());
        assert_eq!(create("s", 1).unwrap(), create("/s", 1).unwrap());
        assert!(matches!(create("", 1), Err(WriteError::Stream(_))));
        assert!(matches!(create("s t", 1), Err(WriteError::Stream(_))));
        for partitions in [0, 101] {
            assert!(matches!(create("s", partitions), Err(WriteError::Partitions { .. })));
        }
    }
}
