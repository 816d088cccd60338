//! Permissions in the hand of a stream's owner: grants and stream records that anybody can check.
//!
//! A stream id names its owner's address, so the owner's signature is all it takes: no server, no chain, and the owner may be
//! away. [`SignedGrants`] keeps what it was given and decides by it; what came along with a key request is taken in as well.
//! [`Issuer`] is the owner's own side. `docs/PROTOCOL.md`, section 9.
//!
//! Of stream records the newest counts and none takes its place that is older, also after a restart: that is how a grant is
//! taken back before its end. Where there is no record, or it expired, nobody is let in, for nobody can tell.

mod changes;
mod decide;
mod error;
mod heard;
mod issue;
mod line;
mod room;
mod shelf;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use veilcast_key_store::RecordStore;

pub use error::GrantError;
pub use issue::{Issuer, RECORD_LIFETIME, StreamSettings};
pub use line::{from_line, to_line};

use self::changes::Changes;
use self::decide::UNAVAILABLE;
use self::room::Rooms;
use self::shelf::{Kept, Shelf};
use super::{Answer, Grant, Period, Permission, PermissionSource, Refusal, Shown, StreamInfo, Subscriber};
use crate::identity::{Domain, SignatureError, UserId};
use crate::stream::StreamId;
use crate::time::Timestamp;
use crate::wire::{
    Content, MAX_PROOF_LEN, MAX_PROOFS, OWNERS_REGISTRY, Received, SignedGrant, StreamRecord, Verified, kind_of,
};

/// How much is kept. At the limit what is over gives way, and where nothing is, what comes is refused: of one user the grant that has
/// been over the longest; of one stream every grant that has been for a day; of all streams those of others whose records expired
/// a month ago.
#[derive(Clone, Copy, Debug)]
pub struct GrantLimits {
    /// Streams with a record.
    pub streams: usize,
    /// Grants of one stream.
    pub per_stream: usize,
    /// Grants of one user for one permission on one stream.
    pub per_user: usize,
}

impl Default for GrantLimits {
    fn default() -> Self {
        Self { streams: 4096, per_stream: 65_536, per_user: 8 }
    }
}

/// Something an owner said.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "the wire has these two")]
pub enum Statement {
    /// What somebody may do.
    Grant(SignedGrant),
    /// How a stream is set up.
    Record(StreamRecord),
}

impl Statement {
    /// What an envelope says and its stream's owner signed. Whether it still counts is another question.
    ///
    /// # Errors
    /// [`GrantError`]: it is no statement, or not by the owner.
    pub fn read(envelope: &Bytes) -> Result<Self, GrantError> {
        fn verified<T: Content + Clone>(envelope: &Bytes, stream: impl Fn(&T) -> &StreamId) -> Result<T, GrantError> {
            let received = Received::<T>::decode(envelope)?;
            let stream = stream(received.claims()).clone();
            Ok(verify(received, &stream)?.into_content())
        }
        match kind_of(envelope)? {
            kind if kind == Domain::SignedGrant.number() => {
                verified(envelope, |grant: &SignedGrant| &grant.stream).map(Self::Grant)
            }
            kind if kind == Domain::StreamRecord.number() => {
                verified(envelope, |record: &StreamRecord| &record.stream).map(Self::Record)
            }
            _ => Err(GrantError::Line),
        }
    }
}

/// What owners signed, kept in a store.
pub struct SignedGrants {
    shelf: Shelf,
    limits: GrantLimits,
    changes: Changes,
    rooms: Rooms,
}

impl SignedGrants {
    /// Over the records of a store.
    pub fn new(records: Arc<dyn RecordStore>) -> Self {
        Self::with_limits(records, GrantLimits::default())
    }

    /// The same, with other limits.
    pub fn with_limits(records: Arc<dyn RecordStore>, limits: GrantLimits) -> Self {
        Self { shelf: Shelf::new(records), limits, changes: Changes::new(), rooms: Rooms::new() }
    }

    /// Takes in what an owner signed, from an envelope. The same again changes nothing. It is durable when this returns.
    ///
    /// # Errors
    /// [`GrantError`] says why it does not count; nothing is changed then.
    pub fn import(&self, envelope: &Bytes, now: Timestamp) -> Result<Statement, GrantError> {
        if envelope.len() > MAX_PROOF_LEN {
            return Err(GrantError::TooLong { got: envelope.len(), limit: MAX_PROOF_LEN });
        }
        match kind_of(envelope)? {
            kind if kind == Domain::SignedGrant.number() => {
                let received = Received::<SignedGrant>::decode(envelope)?;
                self.import_grant(received, envelope, now).map(Statement::Grant)
            }
            kind if kind == Domain::StreamRecord.number() => {
                let received = Received::<StreamRecord>::decode(envelope)?;
                self.import_record(received, envelope, now).map(Statement::Record)
            }
            _ => Err(GrantError::Line),
        }
    }

    fn import_grant(
        &self,
        received: Received<SignedGrant>,
        envelope: &Bytes,
        now: Timestamp,
    ) -> Result<SignedGrant, GrantError> {
        let claims = received.claims().clone();
        right_registry(&claims.registry)?;
        let known = self.shelf.grants_of(&claims.stream, claims.user, claims.permission)?;
        let is_known = known.iter().any(|kept| kept.envelope == *envelope);
        // What is here already was verified then.
        let verified = if is_known { None } else { Some(verify(received, &claims.stream)?) };
        if let Some(Refusal::Expired { since }) = claims.period.refusal_at(now) {
            return Err(GrantError::Ended { since });
        }
        let record = self.shelf.record(&claims.stream)?;
        if let Some(since) = record.and_then(|record| record.content.revoked(&claims)) {
            return Err(GrantError::Revoked { serial: claims.serial, since });
        }
        if let Some(verified) = verified {
            self.keep_grant(&verified, now)?;
        }
        Ok(claims)
    }

    fn keep_grant(&self, grant: &Verified<SignedGrant>, now: Timestamp) -> Result<(), GrantError> {
        let new = grant.content();
        let _turn = self.rooms.turn(&new.stream, new.user);
        let known = self.shelf.grants_of(&new.stream, new.user, new.permission)?;
        if let Some(same) = known.iter().find(|kept| kept.content.serial == new.serial) {
            let is_same = same.content == *new;
            return if is_same { Ok(()) } else { Err(GrantError::SerialTaken { serial: new.serial }) };
        }
        let instead_of = match known.len() < self.limits.per_user {
            true => None,
            false => Some(self.longest_over(&new.stream, &known, now)?),
        };
        if instead_of.is_none() {
            self.make_room(&new.stream, now)?;
        }
        // Others' grants are written meanwhile: those of many users who come at once wait for the disk together.
        let written = self.count_on(new).and_then(|()| Ok(self.shelf.put_grant(grant, instead_of)?));
        if instead_of.is_none() {
            self.rooms.lock().settled(&new.stream, written.is_ok());
        }
        written?;
        self.changes.grant(&new.stream, new.user);
        Ok(())
    }

    /// The grant that has been over the longest makes room.
    fn longest_over<'a>(
        &self,
        stream: &StreamId,
        known: &'a [Kept<SignedGrant>],
        now: Timestamp,
    ) -> Result<&'a SignedGrant, GrantError> {
        let record = self.shelf.record(stream)?;
        let over = |grant: &SignedGrant| {
            let revoked = record.as_ref().and_then(|record| record.content.revoked(grant));
            let ended = matches!(grant.period.refusal_at(now), Some(Refusal::Expired { .. }));
            revoked.into_iter().chain(grant.period.end.filter(|_| ended)).min()
        };
        let gone = known.iter().filter_map(|kept| Some((over(&kept.content)?, &kept.content)));
        let too_many = GrantError::TooMany { what: "grants of one user", limit: self.limits.per_user };
        gone.min_by_key(|(since, _)| *since).map(|(_, grant)| grant).ok_or(too_many)
    }

    fn import_record(
        &self,
        received: Received<StreamRecord>,
        envelope: &Bytes,
        now: Timestamp,
    ) -> Result<StreamRecord, GrantError> {
        let claims = received.claims().clone();
        right_registry(&claims.registry)?;
        let known = self.shelf.record(&claims.stream)?;
        if known.as_ref().is_some_and(|known| known.envelope == *envelope) {
            return Ok(claims);
        }
        newer(&claims, known.as_ref())?;
        let verified = verify(received, &claims.stream)?;
        if !claims.holds_at(now) {
            return Err(GrantError::RecordExpired { since: claims.expires });
        }
        self.keep_record(&verified, now)?;
        Ok(claims)
    }

    fn keep_record(&self, record: &Verified<StreamRecord>, now: Timestamp) -> Result<(), GrantError> {
        let _turn = self.rooms.lock();
        let known = self.shelf.record(&record.content().stream)?;
        newer(record.content(), known.as_ref())?;
        if known.is_none() {
            self.make_room_for_stream(now)?;
        }
        heard::note(&self.shelf, record.content(), now)?;
        self.shelf.put_record(record)?;
        self.changes.record(&record.content().stream);
        Ok(())
    }

    /// The newest record of a stream, and its envelope.
    ///
    /// # Errors
    /// [`GrantError::Store`], [`GrantError::Damaged`].
    pub fn record(&self, stream: &StreamId) -> Result<Option<(StreamRecord, Bytes)>, GrantError> {
        Ok(self.shelf.record(stream)?.map(|kept| (kept.content, kept.envelope)))
    }

    /// Every grant kept of a stream, ended and revoked ones included, with its envelope.
    ///
    /// # Errors
    /// [`GrantError::Store`], [`GrantError::Damaged`].
    pub fn grants(&self, stream: &StreamId) -> Result<Vec<(SignedGrant, Bytes)>, GrantError> {
        Ok(self.shelf.grants(stream)?.into_iter().map(|kept| (kept.content, kept.envelope)).collect())
    }

    /// The newest grant of SUBSCRIBE that `user` has and this publisher was not shown; none that is over or was taken back.
    ///
    /// # Errors
    /// [`GrantError::Store`], [`GrantError::Damaged`].
    pub fn unshown(
        &self,
        stream: &StreamId,
        user: UserId,
        publisher: UserId,
        now: Timestamp,
    ) -> Result<Option<u64>, GrantError> {
        let record = self.shelf.record(stream)?;
        let counts = |grant: &SignedGrant| {
            let revoked = record.as_ref().and_then(|record| record.content.revoked(grant));
            revoked.is_none() && !matches!(grant.period.refusal_at(now), Some(Refusal::Expired { .. }))
        };
        let grants = self.shelf.grants_of(stream, user, Permission::Subscribe)?;
        let newest = grants.iter().filter(|kept| counts(&kept.content)).map(|kept| kept.content.serial).max();
        let Some(newest) = newest else { return Ok(None) };
        Ok((newest > self.shelf.shown(stream, publisher)?).then_some(newest))
    }

    /// A publisher was shown the grants up to this serial. Durable when this returns.
    ///
    /// # Errors
    /// [`GrantError::Store`].
    pub fn was_shown(&self, stream: &StreamId, publisher: UserId, serial: u64) -> Result<(), GrantError> {
        Ok(self.shelf.put_shown(stream, publisher, serial)?)
    }

    /// The streams there are records of.
    ///
    /// # Errors
    /// [`GrantError::Store`], [`GrantError::Damaged`].
    pub fn streams(&self) -> Result<Vec<StreamId>, GrantError> {
        self.shelf.streams()
    }

    /// The grants of a stream as they count: of each user and permission those that follow each other as one.
    ///
    /// # Errors
    /// [`GrantError::Store`], [`GrantError::Damaged`].
    pub fn counted(&self, stream: &StreamId) -> Result<Vec<(UserId, Grant)>, GrantError> {
        let record = self.shelf.record(stream)?.map(|kept| kept.content);
        self.counted_by(stream, record)
    }

    fn counted_by(&self, stream: &StreamId, record: Option<StreamRecord>) -> Result<Vec<(UserId, Grant)>, GrantError> {
        let mut of: HashMap<(UserId, Permission), Vec<SignedGrant>> = HashMap::new();
        for kept in self.shelf.grants(stream)? {
            of.entry((kept.content.user, kept.content.permission)).or_default().push(kept.content);
        }
        let mut all: Vec<(UserId, Grant)> = Vec::new();
        for ((user, permission), signed) in of {
            let grants = decide::grants(record.as_ref(), permission, &signed);
            all.extend(grants.into_iter().map(|grant| (user, grant)));
        }
        all.sort_by_key(|(user, grant)| (*user, grant.permission, grant.beginning()));
        Ok(all)
    }

    fn check_now(
        &self,
        stream: &StreamId,
        user: UserId,
        permission: Permission,
        now: Timestamp,
    ) -> Result<Result<Grant, Refusal>, GrantError> {
        match stream.owner() {
            Some(owner) if owner == user => return Ok(Ok(Grant::new(permission, Period::ALWAYS))),
            Some(_) => {}
            None => return Ok(Err(Refusal::Denied)),
        }
        let record = self.shelf.record(stream)?.map(|kept| kept.content);
        let signed: Vec<_> =
            self.shelf.grants_of(stream, user, permission)?.into_iter().map(|kept| kept.content).collect();
        let grants = decide::grants(record.as_ref(), permission, &signed);
        let is_named = record.as_ref().is_some_and(|record| record.publishers.contains(&user));
        Ok(decide::decide(record.as_ref(), permission, &grants, is_named, now))
    }

    fn record_as_heard(&self, stream: &StreamId) -> Result<Option<StreamRecord>, GrantError> {
        let record = self.shelf.record(stream)?.map(|kept| kept.content);
        record.map(|record| heard::as_heard(&self.shelf, stream, record)).transpose()
    }

    fn subscribers_now(&self, stream: &StreamId) -> Result<Vec<Subscriber>, GrantError> {
        let subscribing = |(user, grant): (UserId, Grant)| {
            (grant.permission == Permission::Subscribe).then_some(Subscriber { user, grant })
        };
        let record = self.record_as_heard(stream)?;
        Ok(self.counted_by(stream, record)?.into_iter().filter_map(subscribing).collect())
    }

    /// One proof that came with a request.
    fn shown(&self, stream: &StreamId, user: UserId, proof: &Bytes, now: Timestamp) -> Result<(), GrantError> {
        if proof.len() > MAX_PROOF_LEN {
            return Err(GrantError::TooLong { got: proof.len(), limit: MAX_PROOF_LEN });
        }
        if kind_of(proof)? == Domain::StreamRecord.number() {
            let received = Received::<StreamRecord>::decode(proof)?;
            about(&received.claims().stream, stream)?;
            return self.import_record(received, proof, now).map(drop);
        }
        let received = Received::<SignedGrant>::decode(proof)?;
        about(&received.claims().stream, stream)?;
        let found = received.claims().user;
        if found != user {
            return Err(GrantError::ForeignUser { found });
        }
        self.import_grant(received, proof, now).map(drop)
    }
}

fn right_registry(name: &str) -> Result<(), GrantError> {
    if name == OWNERS_REGISTRY { Ok(()) } else { Err(GrantError::ForeignRegistry { found: name.into() }) }
}

fn about(found: &StreamId, stream: &StreamId) -> Result<(), GrantError> {
    if found == stream { Ok(()) } else { Err(GrantError::ForeignStream { found: found.clone() }) }
}

fn newer(record: &StreamRecord, known: Option<&Kept<StreamRecord>>) -> Result<(), GrantError> {
    let known = known.map_or(0, |known| known.content.version);
    let found = record.version;
    if found > known { Ok(()) } else { Err(GrantError::Outdated { found, known }) }
}

fn verify<T: Content>(received: Received<T>, stream: &StreamId) -> Result<Verified<T>, GrantError> {
    received.verify().map_err(|error| match error {
        SignatureError::Foreign { expected, found } => {
            GrantError::NotOwner { stream: stream.clone(), owner: expected, found }
        }
        other => GrantError::Signature(other),
    })
}

/// A store that fails cannot tell: refuse, and say when to ask again.
fn unavailable(error: GrantError) -> Refusal {
    tracing::warn!(%error, "the signed grants cannot be read");
    UNAVAILABLE
}

impl PermissionSource for SignedGrants {
    fn check<'a>(
        &'a self,
        stream: &'a StreamId,
        user: UserId,
        permission: Permission,
        now: Timestamp,
    ) -> Answer<'a, Result<Grant, Refusal>> {
        let answer = self.check_now(stream, user, permission, now).unwrap_or_else(|error| Err(unavailable(error)));
        Box::pin(std::future::ready(answer))
    }

    fn subscribers<'a>(&'a self, stream: &'a StreamId) -> Answer<'a, Result<Vec<Subscriber>, Refusal>> {
        Box::pin(std::future::ready(self.subscribers_now(stream).map_err(unavailable)))
    }

    fn stream<'a>(&'a self, stream: &'a StreamId) -> Answer<'a, Result<Option<StreamInfo>, Refusal>> {
        let record = self.record_as_heard(stream).map_err(unavailable);
        // Whether a record has run out nobody can tell without the time: it makes nothing public.
        let private = |record: StreamRecord| StreamInfo {
            public: false,
            public_ends: None,
            ..decide::info(&record, Timestamp::ZERO)
        };
        Box::pin(std::future::ready(record.map(|record| record.map(private))))
    }

    fn stream_at<'a>(
        &'a self,
        stream: &'a StreamId,
        now: Timestamp,
    ) -> Answer<'a, Result<Option<StreamInfo>, Refusal>> {
        let record = self.record_as_heard(stream).map_err(unavailable);
        let info = record.map(|record| record.map(|record| decide::info(&record, now)));
        Box::pin(std::future::ready(info))
    }

    fn changes(&self) -> u64 {
        self.changes.last()
    }

    fn changes_for(&self, stream: &StreamId, user: UserId) -> u64 {
        self.changes.of(stream, user)
    }

    fn kind(&self) -> &'static str {
        "grants"
    }

    fn waits_for_the_disk(&self) -> bool {
        true
    }

    fn show(&self, stream: &StreamId, user: UserId, proofs: &[Bytes], now: Timestamp) -> Shown {
        let mut shown = Shown::default();
        for proof in proofs.iter().take(MAX_PROOFS) {
            let Err(error) = self.shown(stream, user, proof, now) else { continue };
            tracing::debug!(%stream, %user, %error, "a proof does not count");
            match error {
                GrantError::Ended { since } | GrantError::Revoked { since, .. } => {
                    shown.refusal = Some(Refusal::Expired { since });
                }
                GrantError::NotOwner { .. } | GrantError::Signature(_) => shown.vain_checks += 1,
                _ => {}
            }
        }
        shown
    }

    fn proofs(&self, stream: &StreamId, user: UserId, now: Timestamp) -> Vec<Bytes> {
        let read = || {
            let record = self.shelf.record(stream)?;
            let mut grants = self.shelf.grants_of(stream, user, Permission::Subscribe)?;
            let revoked = |grant: &SignedGrant| record.as_ref().and_then(|record| record.content.revoked(grant));
            grants.retain(|kept| revoked(&kept.content).is_none());
            // Those that hold first, and of the rest the newest.
            grants.sort_by_key(|kept| {
                (kept.content.period.refusal_at(now).is_some(), std::cmp::Reverse(kept.content.serial))
            });
            let all = record.into_iter().map(|kept| kept.envelope).chain(grants.into_iter().map(|kept| kept.envelope));
            Ok(all.take(MAX_PROOFS).collect())
        };
        read().unwrap_or_else(|error: GrantError| {
            tracing::warn!(%stream, %error, "the signed grants cannot be read: nothing is shown");
            Vec::new()
        })
    }
}
