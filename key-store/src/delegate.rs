//! Hands a store's calls to the ledger inside it.

/// Implements both traits for a type with a method `ledger(&self)`.
macro_rules! delegate_to_ledger {
    ($store:ty) => {
        impl crate::KeyStore for $store {
            fn key(
                &self,
                scope: &crate::KeyScope,
                id: &crate::KeyId,
            ) -> Result<Option<crate::StoredKey>, crate::StoreError> {
                self.ledger().key(scope, id)
            }

            fn current(&self, scope: &crate::KeyScope) -> Result<Option<crate::StoredKey>, crate::StoreError> {
                self.ledger().current(scope)
            }

            fn make_current(
                &self,
                scope: &crate::KeyScope,
                key: &crate::GroupKey,
                since: u64,
            ) -> Result<(), crate::StoreError> {
                self.ledger().make_current(scope, key, since)
            }

            fn add(
                &self,
                scope: &crate::KeyScope,
                key: &crate::GroupKey,
                since: u64,
                until: Option<u64>,
                origin: crate::KeyOrigin,
            ) -> Result<(), crate::StoreError> {
                self.ledger().add(scope, key, since, until, origin)
            }

            fn add_all(
                &self,
                scope: &crate::KeyScope,
                keys: &[crate::StoredKey],
            ) -> Result<Vec<crate::KeyId>, crate::StoreError> {
                self.ledger().add_all(scope, keys)
            }

            fn remove(&self, scope: &crate::KeyScope, id: &crate::KeyId) -> Result<bool, crate::StoreError> {
                self.ledger().remove(scope, id)
            }

            fn remove_all(&self, scope: &crate::KeyScope, ids: &[crate::KeyId]) -> Result<u64, crate::StoreError> {
                self.ledger().remove_all(scope, ids)
            }

            fn history(
                &self,
                scope: &crate::KeyScope,
                range: crate::TimeRange,
                after: Option<&crate::HistoryCursor>,
                limit: usize,
            ) -> Result<Vec<crate::StoredKey>, crate::StoreError> {
                self.ledger().history(scope, range, after, limit)
            }

            fn scopes(&self) -> Result<Vec<crate::KeyScope>, crate::StoreError> {
                self.ledger().scopes()
            }
        }

        impl crate::RecordStore for $store {
            fn get(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>, crate::StoreError> {
                self.ledger().get(table, key)
            }

            fn write(&self, table: &str, changes: &[crate::RecordChange]) -> Result<(), crate::StoreError> {
                self.ledger().write(table, changes)
            }

            fn scan(
                &self,
                table: &str,
                prefix: &[u8],
                after: Option<&[u8]>,
                limit: usize,
            ) -> Result<Vec<crate::Record>, crate::StoreError> {
                self.ledger().scan(table, prefix, after, limit)
            }
        }
    };
}

pub(crate) use delegate_to_ledger;
