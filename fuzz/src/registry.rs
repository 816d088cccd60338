//! Permissions as the local registry keeps them.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use veilcast::Permission;
use veilcast::key_store::{MemoryKeyStore, RecordStore};
use veilcast::permission::{LocalRegistry, PermissionSource};

use crate::bounded::bounded;
use crate::cast::{NOW, stream, subscriber};

/// The record of a grant, and of a stream: nobody is granted anything that the record does not say, whole and now.
pub fn registry(data: &[u8]) -> bool {
    let records = Arc::new(MemoryKeyStore::default());
    let user = subscriber().user();
    let grant = [stream().as_str().as_bytes(), b"\0", user.as_bytes(), b"subscribe"].concat();
    records.write("grants", &[(grant, Some(data.to_vec()))]).expect("memory does not fail");
    let registry = LocalRegistry::new(records.clone());
    let listed = bounded(data, || registry.grants(&stream()));
    let stream = stream();
    let answer = at_once(registry.check(&stream, user, Permission::Subscribe, NOW));
    if let Ok(grant) = answer {
        assert!(listed.as_ref().is_ok_and(|all| all.contains(&(user, grant))), "{grant:?} is on record");
        assert_eq!(grant.holds_at(NOW), Ok(()));
    }
    let taken = listed.is_ok();

    records.write("streams", &[(stream.as_str().as_bytes().to_vec(), Some(data.to_vec()))]).expect("as before");
    let (one, all) = (registry.stream_info(&stream), registry.streams());
    if let (Ok(Some(one)), Ok(all)) = (&one, &all) {
        assert_eq!(all, &[(stream.clone(), one.clone())]);
    }
    taken || one.is_ok()
}

/// The local registry never waits.
fn at_once<T>(answer: impl Future<Output = T>) -> T {
    match pin!(answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("the local registry never waits"),
    }
}
