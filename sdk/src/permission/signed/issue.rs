//! The owner's side: making grants and stream records.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::SignedGrants;
use super::error::GrantError;
use crate::identity::{Identity, UserId};
use crate::permission::{Period, Permission};
use crate::stream::StreamId;
use crate::time::Timestamp;
use crate::wire::{OWNERS_REGISTRY, Revocation, Revoked, SignedGrant, StreamRecord, Verified};

/// How long a stream record says something, and so how long others can go by it while its owner is away. It is made anew
/// once a third of it is over, by whatever program of the owner's runs then.
pub const RECORD_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// A revocation stays in the record so long after the grants it is about ended anyway: clocks may differ.
const SLACK: Duration = Duration::from_secs(24 * 3600);
const FOR_EVER: Timestamp = Timestamp::from_millis(u64::MAX);

/// How a stream is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSettings {
    /// How many partitions it has, 1 to 100.
    pub partitions: u32,
    /// Anybody may subscribe.
    pub public: bool,
    /// Who may publish without a grant, beside the owner.
    pub publishers: Vec<UserId>,
    /// Whose nodes are to keep its messages.
    pub storage: Vec<UserId>,
}

/// Signs for the streams of one identity. Nothing is given out before it is durable here.
///
/// Serials and versions are counted in the store: issue from one device. Two that issue for the same stream use serials and
/// versions twice, and of two records of one version others keep whichever they saw first.
pub struct Issuer {
    identity: Identity,
    grants: Arc<SignedGrants>,
    turn: Mutex<()>,
}

impl Issuer {
    /// For the streams of `identity`; what is made is kept with `grants`.
    pub fn new(identity: Identity, grants: Arc<SignedGrants>) -> Self {
        grants.rooms.belongs_to(identity.user());
        Self { identity, grants, turn: Mutex::new(()) }
    }

    /// Makes a stream, or changes how it is set up. The same again changes nothing.
    ///
    /// # Errors
    /// [`GrantError::EnsOwner`], [`GrantError::NotOwner`], [`GrantError::Wire`] for settings that no record can have,
    /// [`GrantError::Store`].
    pub fn set_up(
        &self,
        stream: &StreamId,
        settings: &StreamSettings,
        now: Timestamp,
    ) -> Result<Verified<StreamRecord>, GrantError> {
        let _turn = self.turn();
        self.must_own(stream)?;
        let known = self.grants.shelf.record(stream)?.map(|kept| kept.content);
        if let Some(known) = &known
            && known.holds_at(now)
            && is_set_up(known, settings)
        {
            return Ok(Verified::sign(known.clone(), &self.identity)?);
        }
        let stops = known.as_ref().is_some_and(|known| known.public) && !settings.public;
        let public_until = if stops { Some(now) } else { known.as_ref().and_then(|known| known.public_until) };
        let StreamSettings { partitions, public, publishers, storage } = settings.clone();
        let revocations = known.as_ref().map_or_else(Vec::new, |known| known.revocations.clone());
        let version = known.map_or(0, |known| known.version);
        let (stream, registry) = (stream.clone(), OWNERS_REGISTRY.to_owned());
        let (issued, expires) = (now, now);
        let record = StreamRecord {
            stream,
            registry,
            partitions,
            public,
            public_until,
            publishers,
            version,
            issued,
            expires,
            revocations,
            storage,
        };
        self.publish(record, now)
    }

    /// Allows somebody something for a period. A further grant moves its end; [`Self::revoke_serial`] ends it at once.
    ///
    /// # Errors
    /// [`GrantError::NoStream`], [`GrantError::Period`], [`GrantError::TooMany`], and as [`Self::set_up`]. A serial may be left
    /// out then.
    pub fn issue(
        &self,
        stream: &StreamId,
        user: UserId,
        permission: Permission,
        period: Period,
        now: Timestamp,
    ) -> Result<Verified<SignedGrant>, GrantError> {
        let _turn = self.turn();
        self.must_own(stream)?;
        self.made(stream)?;
        period.grantable_at(now)?;
        let serial = self.next_serial(stream)?;
        // Before anything bears it: a serial that was revoked must not come back as another grant.
        self.grants.shelf.put_next_serial(stream, serial.saturating_add(1))?;
        let (stream, registry) = (stream.clone(), OWNERS_REGISTRY.to_owned());
        let grant = SignedGrant { stream, registry, user, permission, period, serial, issued: now };
        let signed = Verified::sign(grant, &self.identity)?;
        self.grants.keep_grant(&signed, now)?;
        Ok(signed)
    }

    /// Takes back everything that a user was granted so far on a stream. What it is granted later counts again.
    ///
    /// # Errors
    /// [`GrantError::NoGrant`], [`GrantError::RevocationsFull`], [`GrantError::NoStream`], and as [`Self::set_up`].
    pub fn revoke_user(
        &self,
        stream: &StreamId,
        user: UserId,
        now: Timestamp,
    ) -> Result<Verified<StreamRecord>, GrantError> {
        let _turn = self.turn();
        let through = self.next_serial(stream)?.saturating_sub(1);
        self.revoke(stream, Revoked::User { user, through }, now)
    }

    /// Takes one grant back.
    ///
    /// # Errors
    /// As [`Self::revoke_user`].
    pub fn revoke_serial(
        &self,
        stream: &StreamId,
        serial: u64,
        now: Timestamp,
    ) -> Result<Verified<StreamRecord>, GrantError> {
        let _turn = self.turn();
        self.revoke(stream, Revoked::Serial(serial), now)
    }

    fn revoke(&self, stream: &StreamId, what: Revoked, now: Timestamp) -> Result<Verified<StreamRecord>, GrantError> {
        self.must_own(stream)?;
        let mut record = self.made(stream)?;
        let issued = self.grants.shelf.grants(stream)?;
        if !issued.iter().any(|kept| what.covers(&kept.content)) {
            return Err(GrantError::NoGrant { stream: stream.clone() });
        }
        // Ends are told apart by their moments.
        let last = record.revocations.iter().map(|revocation| revocation.at.as_millis()).max();
        let at = last.map_or(now, |last| now.max(Timestamp::from_millis(last.saturating_add(1))));
        let is_same = |other: &Revocation| match (other.what, what) {
            (Revoked::User { user, .. }, Revoked::User { user: again, .. }) => user == again,
            (other, what) => other == what,
        };
        let mut kept = Vec::with_capacity(record.revocations.len());
        for other in std::mem::take(&mut record.revocations) {
            if !is_same(&other) && self.still_needed(stream, other.what, now)? {
                kept.push(other);
            }
        }
        record.revocations = kept;
        if record.revocations.len() >= StreamRecord::MAX_REVOCATIONS {
            return Err(GrantError::RevocationsFull);
        }
        let until = issued.iter().filter(|kept| what.covers(&kept.content)).map(|kept| needed_for(&kept.content)).max();
        let before = self.grants.shelf.needed(stream, what)?;
        self.grants.shelf.put_needed(stream, what, until.max(before).unwrap_or(FOR_EVER))?;
        record.revocations.push(Revocation { what, at });
        let taken = record.revocations.len();
        if taken >= StreamRecord::REVOCATIONS_NEARLY_FULL {
            tracing::warn!(%stream, taken, limit = StreamRecord::MAX_REVOCATIONS, "a stream record is nearly full of revocations");
        }
        self.publish(record, now)
    }

    /// Whether a grant that it takes back would hold now, or did until a moment ago. The grants themselves may have made room for
    /// others here since, and be kept elsewhere.
    fn still_needed(&self, stream: &StreamId, what: Revoked, now: Timestamp) -> Result<bool, GrantError> {
        Ok(self.grants.shelf.needed(stream, what)?.is_none_or(|until| now <= until))
    }

    /// One more than any that was given out, as far as this store has heard.
    fn next_serial(&self, stream: &StreamId) -> Result<u64, GrantError> {
        if let Some(next) = self.grants.shelf.next_serial(stream)? {
            return Ok(next);
        }
        let record = self.grants.shelf.record(stream)?.map(|kept| kept.content.revocations).unwrap_or_default();
        let revoked = record.iter().map(|revocation| match revocation.what {
            Revoked::Serial(serial) | Revoked::User { through: serial, .. } => serial,
        });
        let issued = self.grants.shelf.grants(stream)?;
        let highest = issued.iter().map(|kept| kept.content.serial).chain(revoked).max();
        Ok(highest.unwrap_or(0).saturating_add(1))
    }

    /// Makes the record anew if a third of its life is over.
    ///
    /// # Errors
    /// [`GrantError::NoStream`], and as [`Self::set_up`].
    pub fn renew(&self, stream: &StreamId, now: Timestamp) -> Result<Option<Verified<StreamRecord>>, GrantError> {
        let _turn = self.turn();
        self.must_own(stream)?;
        let record = self.made(stream)?;
        if now.plus(RECORD_LIFETIME * 2 / 3) < record.expires {
            return Ok(None);
        }
        self.publish(record, now).map(Some)
    }

    /// The streams of this identity that there are records of.
    ///
    /// # Errors
    /// [`GrantError::Store`], [`GrantError::Damaged`].
    pub fn streams(&self) -> Result<Vec<StreamId>, GrantError> {
        let mut all = self.grants.streams()?;
        all.retain(|stream| stream.owner() == Some(self.identity.user()));
        Ok(all)
    }

    /// The next version of a record, durable before it is returned.
    fn publish(&self, record: StreamRecord, now: Timestamp) -> Result<Verified<StreamRecord>, GrantError> {
        let version = record.version.saturating_add(1);
        let record = StreamRecord { version, issued: now, expires: now.plus(RECORD_LIFETIME), ..record };
        let signed = Verified::sign(record, &self.identity)?;
        self.grants.keep_record(&signed, now)?;
        Ok(signed)
    }

    fn made(&self, stream: &StreamId) -> Result<StreamRecord, GrantError> {
        let record = self.grants.shelf.record(stream)?.map(|kept| kept.content);
        record.ok_or_else(|| GrantError::NoStream { stream: stream.clone() })
    }

    fn must_own(&self, stream: &StreamId) -> Result<(), GrantError> {
        let owner = stream.owner().ok_or_else(|| GrantError::EnsOwner { stream: stream.clone() })?;
        let found = self.identity.user();
        if owner == found { Ok(()) } else { Err(GrantError::NotOwner { stream: stream.clone(), owner, found }) }
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_set_up(record: &StreamRecord, settings: &StreamSettings) -> bool {
    (record.partitions, record.public) == (settings.partitions, settings.public)
        && (&record.publishers, &record.storage) == (&settings.publishers, &settings.storage)
}

/// Until when it must be said that this grant was taken back.
fn needed_for(grant: &SignedGrant) -> Timestamp {
    grant.period.end.map_or(FOR_EVER, |end| end.plus(SLACK))
}
