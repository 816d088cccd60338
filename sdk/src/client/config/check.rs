//! Refuses settings that make no sense, once, so that later code need not look.

use std::time::Duration;

use super::ClientConfig;
use crate::cipher::{MAX_RSA_BITS, MIN_RSA_BITS, RsaError};
use crate::client::ClientError;

/// What an envelope adds to a payload at most, bytes: header, signature, framing.
const ENVELOPE: usize = 16 * 1024;

impl ClientConfig {
    /// # Errors
    /// [`ClientError::Config`] with the name of what is wrong, [`ClientError::Rsa`].
    pub(in crate::client) fn check(&self) -> Result<(), ClientError> {
        if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&self.rsa_bits) {
            return Err(RsaError::Size { bits: self.rsa_bits }.into());
        }
        let zeros = self.counts().into_iter().chain(self.spans());
        if let Some((name, _)) = zeros.into_iter().find(|(_, is_zero)| *is_zero) {
            return Err(ClientError::Config(format!("{name} must not be zero")));
        }
        let (size, limit) = (self.max_payload.saturating_add(ENVELOPE), self.network.max_frame);
        if size > limit {
            let text = format!("max_payload needs frames of {size} bytes, network.max_frame is {limit}");
            return Err(ClientError::Config(text));
        }
        Ok(())
    }

    /// Without any of these nothing is ever asked, answered or delivered.
    fn counts(&self) -> [(&'static str, bool); 6] {
        [
            ("requester.max_key_requests_per_second", self.requester.max_key_requests_per_second == 0),
            ("subscription_queue", self.subscription_queue == 0),
            ("resend.at_once", self.resend.at_once == 0),
            ("resend.reads", self.resend.reads == 0),
            ("resend.long_reads", self.resend.long_reads == 0),
            ("resend.page", self.resend.page == 0),
        ]
    }

    /// What takes no time at all is over before it began, and what is done that often is done without a pause.
    fn spans(&self) -> [(&'static str, bool); 5] {
        [
            ("record_lifetime", self.record_lifetime),
            ("stream_record_refresh", self.stream_record_refresh),
            ("requester.key_request_timeout", self.requester.key_request_timeout),
            ("screen.freshness", self.screen.freshness),
            ("resend.freshness", self.resend.freshness),
        ]
        .map(|(name, span)| (name, span == Duration::ZERO))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(change: impl FnOnce(&mut ClientConfig)) -> String {
        let mut config = ClientConfig::default();
        change(&mut config);
        config.check().unwrap_err().to_string()
    }

    #[test]
    fn the_default_is_taken_and_what_would_never_do_anything_is_refused_by_its_name() {
        ClientConfig::default().check().unwrap();
        for (name, fault) in [
            ("record_lifetime", fault(|config| config.record_lifetime = Duration::ZERO)),
            ("max_key_requests_per_second", fault(|config| config.requester.max_key_requests_per_second = 0)),
            ("resend.page", fault(|config| config.resend.page = 0)),
            ("subscription_queue", fault(|config| config.subscription_queue = 0)),
            ("max_frame", fault(|config| config.max_payload = usize::MAX)),
            ("bits", fault(|config| config.rsa_bits = 512)),
        ] {
            assert!(fault.contains(name), "{name}: {fault}");
        }
    }
}
