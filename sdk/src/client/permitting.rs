//! Permissions beside the local registry: what owners signed, and this publisher's own lists.

use std::sync::Arc;
use std::time::Duration;

use libp2p::PeerId;

use super::Client;
use super::error::ClientError;
use super::shared::{Shared, blocking, lock};
use crate::identity::UserId;
use crate::permission::{
    AccessList, AccessRules, GrantError, Issuer, Period, Permission, PermissionSource, RECORD_LIFETIME, Refusal, Rule,
    Shown, SignedGrants, Statement, StreamInfo, StreamSettings, Subscriber, from_line, to_line,
};
use crate::stream::StreamId;
use crate::time::Timestamp;
use crate::wire::KeyRequest;

/// How often it is looked whether a stream record is to be made anew. Where nothing changed a look costs a comparison.
const LOOK: Duration = Duration::from_secs(1);

impl Client {
    /// What streams' owners signed, kept in this client's store. It decides where the client was set up with
    /// [`ClientBuilder::signed_grants`](super::ClientBuilder::signed_grants).
    pub fn signed_grants(&self) -> &Arc<SignedGrants> {
        &self.shared.grants
    }

    /// Signs for the streams of this identity; what it signs counts here at once.
    pub fn issuer(&self) -> &Arc<Issuer> {
        &self.shared.issuer
    }

    /// This publisher's own lists, which narrow what the permission source allows. What is changed there counts here at once.
    pub fn access_list(&self) -> &Arc<AccessList> {
        &self.shared.source
    }

    /// Makes the stream `<this identity>/path` by a signed record, or changes how it is set up.
    ///
    /// # Errors
    /// [`ClientError::StreamId`] for a path that cannot be one, [`ClientError::Grant`].
    pub async fn set_up_stream(&self, path: &str, settings: StreamSettings) -> Result<StreamId, ClientError> {
        let stream = StreamId::of(self.user(), path)?;
        let id = stream.clone();
        self.issue(move |issuer, now| issuer.set_up(&id, &settings, now)).await?;
        super::announcing::soon(&self.shared);
        Ok(stream)
    }

    /// Signs a grant for a stream of this identity. Returns it as a line of text, for the user to
    /// [import](Self::import_grant); the publishers of the stream need only the stream's record.
    ///
    /// # Errors
    /// [`ClientError::Grant`]: somebody else's stream, one that was not set up, a period that makes no sense.
    pub async fn issue_grant(
        &self,
        stream: &StreamId,
        user: UserId,
        permission: Permission,
        period: Period,
    ) -> Result<String, ClientError> {
        let stream = stream.clone();
        let signed = self.issue(move |issuer, now| issuer.issue(&stream, user, permission, period, now)).await?;
        Ok(to_line(signed.envelope())?)
    }

    /// Takes back, at once, everything that this identity signed for a user on a stream of its own. Returns the new stream
    /// record as a line of text: publishers other than this client shut the user out as soon as they have it.
    ///
    /// # Errors
    /// [`ClientError::Grant`]: there is nothing to take back, or too much was.
    pub async fn revoke_grants(&self, stream: &StreamId, user: UserId) -> Result<String, ClientError> {
        let stream = stream.clone();
        let record = self.issue(move |issuer, now| issuer.revoke_user(&stream, user, now)).await?;
        Ok(to_line(record.envelope())?)
    }

    /// The newest record of a stream as a line of text, if one is here.
    ///
    /// # Errors
    /// [`ClientError::Grant`] when the store fails.
    pub async fn stream_record(&self, stream: &StreamId) -> Result<Option<String>, ClientError> {
        let (grants, stream) = (self.shared.grants.clone(), stream.clone());
        let record = blocking(move || grants.record(&stream)).await??;
        Ok(record.map(|(_, envelope)| to_line(&envelope)).transpose()?)
    }

    /// Takes in a grant or stream record from a line of text.
    ///
    /// # Errors
    /// [`ClientError::Grant`] says why it does not count.
    pub async fn import_grant(&self, line: &str) -> Result<Statement, ClientError> {
        let (grants, envelope, now) = (self.shared.grants.clone(), from_line(line)?, self.shared.now());
        Ok(blocking(move || grants.import(&envelope, now)).await??)
    }

    async fn issue<T: Send + 'static>(
        &self,
        make: impl FnOnce(&Issuer, Timestamp) -> Result<T, GrantError> + Send + 'static,
    ) -> Result<T, ClientError> {
        let (issuer, now) = (self.shared.issuer.clone(), self.shared.now());
        Ok(blocking(move || make(&issuer, now)).await??)
    }

    /// What the permission source knows of a stream; `None` when it has never heard of it.
    ///
    /// # Errors
    /// [`ClientError::NotPermitted`] while it cannot tell.
    pub async fn stream_info(&self, stream: &StreamId) -> Result<Option<StreamInfo>, ClientError> {
        self.shared.stream_info(stream).await.map_err(|refusal| self.untold(stream, refusal))
    }

    /// Every grant of SUBSCRIBE there is or was on a stream, as the permission source has it: whom this client's own lists keep out
    /// ([`access_rules`](Self::access_rules)) is among them all the same.
    ///
    /// # Errors
    /// [`ClientError::NotPermitted`] while it cannot tell.
    pub async fn subscribers(&self, stream: &StreamId) -> Result<Vec<Subscriber>, ClientError> {
        self.shared.granted(stream).await.map_err(|refusal| self.untold(stream, refusal))
    }

    fn untold(&self, stream: &StreamId, refusal: Refusal) -> ClientError {
        let (user, permission) = (self.user(), Permission::Subscribe);
        ClientError::NotPermitted { user, stream: stream.clone(), permission, refusal }
    }

    /// Serves, of those whom the permission source allows, only users allowed by name from now on, among them this one. The
    /// stream's owner and this identity are served always.
    ///
    /// # Errors
    /// [`ClientError::Access`].
    pub async fn allow(&self, stream: &StreamId, user: UserId) -> Result<(), ClientError> {
        self.set_rule(stream, user, Rule::Allow).await
    }

    /// Gives a user no more keys of a stream, whatever the permission source says. The next message goes out under a new key.
    ///
    /// # Errors
    /// [`ClientError::Access`].
    pub async fn deny(&self, stream: &StreamId, user: UserId) -> Result<(), ClientError> {
        self.set_rule(stream, user, Rule::Deny).await
    }

    async fn set_rule(&self, stream: &StreamId, user: UserId, rule: Rule) -> Result<(), ClientError> {
        let (list, stream, now) = (self.shared.source.clone(), stream.clone(), self.shared.now());
        Ok(blocking(move || list.set(&stream, user, rule, now)).await??)
    }

    /// Takes a user off this publisher's lists of a stream, or ends the lists. While others are allowed by name, a user that
    /// is taken off is out.
    ///
    /// # Errors
    /// [`ClientError::Access`].
    pub async fn clear_access(&self, stream: &StreamId, user: Option<UserId>) -> Result<(), ClientError> {
        let (list, stream, now) = (self.shared.source.clone(), stream.clone(), self.shared.now());
        let cleared = blocking(move || match user {
            Some(user) => list.clear_user(&stream, user, now),
            None => list.clear(&stream, now),
        });
        Ok(cleared.await??)
    }

    /// This publisher's own lists of a stream.
    ///
    /// # Errors
    /// [`ClientError::Access`].
    pub async fn access_rules(&self, stream: &StreamId) -> Result<AccessRules, ClientError> {
        let (list, stream) = (self.shared.source.clone(), stream.clone());
        Ok(blocking(move || list.rules(&stream)).await??)
    }
}

/// Takes in what came along with a request, where it is about a stream that there are keys of: strangers must not fill the
/// store with streams of their own making. What was signed by nobody costs the peer it came through.
pub(super) async fn show(shared: &Arc<Shared>, from: PeerId, request: &KeyRequest) -> Shown {
    if request.proofs.is_empty() {
        return Shown::default();
    }
    let (worker, request) = (shared.clone(), request.clone());
    let shown = blocking(move || {
        let scope = crate::scope(worker.user, &request.stream);
        match worker.store.current(&scope) {
            Ok(Some(_)) => worker.source.show(&request.stream, request.requester, &request.proofs, worker.now()),
            _ => Shown::default(),
        }
    });
    let shown = shown.await.unwrap_or_default();
    lock(&shared.screen).charge_vain(&from.to_bytes(), shown.vain_checks, shared.now());
    shown
}

/// Makes the records of this identity's streams anew long before they expire: who goes by them must not have to ask for it.
pub(super) async fn renew(shared: Arc<Shared>) {
    let (mut due, mut seen) = (Timestamp::ZERO, None);
    loop {
        let (now, changes) = (shared.now(), shared.grants.changes());
        // A clock set back makes it look again as well.
        if now >= due || now.plus(RECORD_LIFETIME) < due || seen != Some(changes) {
            due = renew_now(&shared, now).await;
            seen = Some(changes);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Returns when to look again.
async fn renew_now(shared: &Arc<Shared>, now: Timestamp) -> Timestamp {
    let issuer = shared.issuer.clone();
    let renewed = blocking(move || {
        for stream in issuer.streams()? {
            if let Some(record) = issuer.renew(&stream, now)? {
                tracing::info!(%stream, version = record.content().version, "the stream record was made anew");
            }
        }
        Ok::<_, GrantError>(())
    });
    if let Ok(Err(error)) = renewed.await {
        tracing::error!(%error, "a stream record could not be made anew");
    }
    // What is not due now is due within a third of a life; a day is often enough for each.
    now.plus(RECORD_LIFETIME / 30)
}
