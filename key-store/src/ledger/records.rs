//! Small records, table by table.

use std::ops::ControlFlow;

use zeroize::Zeroizing;

use super::{Ledger, Shelf, place};
use crate::{
    Record, RecordChange, RecordStore, StoreError,
    store::{MAX_RECORD_CHANGES, MAX_RECORD_KEY_LEN, MAX_RECORD_LEN},
};

impl<S: Shelf> RecordStore for Ledger<S> {
    fn get(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let place = place::record(&place::table(table), key);
        Ok(self.shelf.read(&place)?.map(|mut plain| std::mem::take(&mut *plain)))
    }

    fn write(&self, table: &str, changes: &[RecordChange]) -> Result<(), StoreError> {
        within("the name of a table", table.len(), MAX_RECORD_KEY_LEN)?;
        within("a group of changes", changes.len(), MAX_RECORD_CHANGES)?;
        for (key, value) in changes {
            within("the key of a record", key.len(), MAX_RECORD_KEY_LEN)?;
            within("a record", value.as_ref().map_or(0, Vec::len), MAX_RECORD_LEN)?;
        }
        let prefix = place::table(table);
        self.change(|_, planned| {
            for (key, value) in changes {
                planned.insert(place::record(&prefix, key), value.clone().map(Zeroizing::new));
            }
            Ok(())
        })
    }

    fn scan(&self, table: &str, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Record>, StoreError> {
        let mut found = Vec::new();
        if limit == 0 {
            return Ok(found);
        }
        let _steady = self.steady();
        let table = place::table(table);
        let after = after.map(|after| place::record(&table, after));
        self.shelf.walk(&place::record(&table, prefix), after.as_deref(), &mut |at, mut plain| {
            found.push((at[table.len()..].to_vec(), std::mem::take(&mut *plain)));
            Ok(if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(found)
    }
}

fn within(what: &'static str, got: usize, limit: usize) -> Result<(), StoreError> {
    if got > limit { Err(StoreError::TooLarge { what, got, limit }) } else { Ok(()) }
}
