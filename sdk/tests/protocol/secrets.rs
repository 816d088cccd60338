//! Debug and Display of everything that holds a secret show none of it.

use std::fmt::{Debug, Display};

use hkdf::Hkdf;
use rand::SeedableRng;
use rand::rngs::StdRng;
use sha2::{Digest, Sha256};
use veilcast::cipher::{MessageCipher, PublicKey, Recipient, RsaPair, encapsulate};
use veilcast::exchange::Decision;
use veilcast::identity::Identity;
use veilcast::key_store::{GroupKey, KeyId, KeyOrigin, KeyStore, MemoryKeyStore, StoredKey, Unlock};
use veilcast::message::{Draft, Payload};
use veilcast::publisher::KeySchedule;
use veilcast::subscriber::{Arrival, Intake, IntakeEffect, IntakeLimits};
use veilcast::wire::RequestId;

use crate::support::{NOW, Scripted, Vectors, draft, publisher, scope, sealed, stream};

/// Bytes that stand for a secret, and do not look like anything else.
fn secret(name: &str) -> [u8; 32] {
    Sha256::digest(name.as_bytes()).into()
}

fn group_key(id: &str) -> GroupKey {
    GroupKey::new(KeyId::new(id).unwrap(), &secret(id)).unwrap()
}

/// Any four neighbouring bytes of a secret, in any form that a formatter gives bytes.
fn forms(secret: &[u8]) -> Vec<String> {
    let list = |piece: &[u8], form: fn(&u8) -> String| piece.iter().map(form).collect::<Vec<_>>().join(",");
    let of_piece = |piece: &[u8]| {
        vec![
            hex::encode(piece),
            list(piece, |byte| format!("{byte}")),
            list(piece, |byte| format!("{byte:x}")),
            list(piece, |byte| format!("{byte:02x}")),
            list(piece, |byte| format!("0x{byte:02x}")),
            piece.escape_ascii().to_string().to_lowercase(),
            String::from_utf8_lossy(piece).to_lowercase(),
        ]
    };
    secret.windows(4).flat_map(of_piece).collect()
}

/// Everything a type prints, without the white space of the pretty form.
fn flattened(text: String) -> String {
    text.to_lowercase().split_whitespace().collect()
}

fn shows(text: String, secrets: &[&[u8]]) -> bool {
    let text = flattened(text);
    secrets.iter().flat_map(|secret| forms(secret)).any(|form| text.contains(&form))
}

fn keeps_quiet<T: Debug>(value: &T, secrets: &[&[u8]]) {
    for text in [format!("{value:?}"), format!("{value:#?}"), format!("{value:x?}"), format!("{value:#X?}")] {
        assert!(!shows(text.clone(), secrets), "{text}");
    }
}

fn says_nothing_of<E: Display + Debug>(error: &E, secrets: &[&[u8]]) {
    assert!(!shows(error.to_string(), secrets), "{error}");
    keeps_quiet(error, secrets);
}

/// The two keys derived from a secret.
fn derived(ikm: &[u8], info: &[u8]) -> Vec<u8> {
    let mut okm = vec![0; 64];
    Hkdf::<Sha256>::new(Some(b"veilcast/1"), ikm).expand(info, &mut okm).unwrap();
    okm
}

#[test]
fn the_search_finds_a_secret_in_every_form_a_formatter_gives_it() {
    let secret = secret("k");
    let leaks = [
        format!("{secret:?}"),
        format!("{secret:#?}"),
        format!("{secret:x?}"),
        format!("{secret:#x?}"),
        format!("{secret:#X?}"),
        hex::encode(secret),
        hex::encode_upper(secret),
        format!("{:?}", bytes::Bytes::copy_from_slice(&secret)),
        hex::encode(&secret[9..13]),
    ];
    for leak in leaks {
        assert!(shows(leak.clone(), &[&secret]), "{leak}");
    }
}

#[test]
fn a_group_key_and_what_holds_one_print_its_id_at_most() {
    let key = group_key("k");
    let hidden = secret("k");
    keeps_quiet(&key, &[&hidden]);
    assert_eq!(format!("{key:?}"), r#"GroupKey { id: KeyId("k"), .. }"#);

    let stored = StoredKey { key: key.clone(), since: 1, until: Some(2), origin: KeyOrigin::Made };
    keeps_quiet(&stored, &[&hidden]);
    let decision: Decision = (key.id().clone(), Ok(stored));
    keeps_quiet(&decision, &[&hidden]);

    let store = MemoryKeyStore::new();
    store.make_current(&scope(), &key, 1).unwrap();
    keeps_quiet(&store, &[&hidden]);
    keeps_quiet(&store.key(&scope(), key.id()).unwrap(), &[&hidden]);

    let fingerprint = key.fingerprint();
    assert!(!shows(fingerprint, &[&hidden]));
}

#[test]
fn a_schedule_and_its_steps_print_no_key_that_is_current_queued_or_riding() {
    let hidden = [secret("a"), secret("b"), secret("c"), secret("r")];
    let hidden: Vec<&[u8]> = hidden.iter().map(<[u8; 32]>::as_slice).collect();
    let mut schedule = KeySchedule::resume(scope(), Some(group_key("a")));
    schedule.rotate(group_key("b"));
    let step = schedule.plan_message(&mut StdRng::seed_from_u64(1));
    keeps_quiet(&step, &hidden);
    schedule.message_sent(&step);
    schedule.rotate(group_key("c"));
    keeps_quiet(&schedule, &hidden);
    keeps_quiet(&schedule.plan_rekey(group_key("r")), &hidden);
}

#[test]
fn a_cipher_and_a_transport_key_print_neither_their_secret_nor_what_is_derived_from_it() {
    let text = |part: &str| [&(part.len() as u32).to_be_bytes(), part.as_bytes()].concat();
    let user = [&20u32.to_be_bytes()[..], publisher().user().as_bytes()].concat();
    let info = [text("veilcast/1/payload"), user, text(stream("prices").as_str()), text("k")].concat();
    let cipher = MessageCipher::new(&scope(), &group_key("k"));
    keeps_quiet(&cipher, &[&secret("k"), &derived(&secret("k"), &info)]);
    assert_eq!(format!("{cipher:?}"), "MessageCipher(Sealer { .. })");

    let file = Vectors::read("transport.json");
    let top = file.top();
    let public = PublicKey::from_der(&top.bytes("public_key")).unwrap();
    let scope = top.scope();
    let recipient = Recipient { scope: &scope, subscriber: top.user("subscriber"), request: RequestId([5; 16]) };
    let mut rng = Scripted::new(&[&top.bytes("transport_secret"), &top.bytes("oaep_seed")]);
    let (transport, _) = encapsulate(recipient, &public, &mut rng).unwrap();
    let keys = derived(&top.bytes("transport_secret"), &top.bytes("label"));
    keeps_quiet(&transport, &[&top.bytes("transport_secret"), &top.bytes("oaep_seed"), &keys]);
}

#[test]
fn an_identity_prints_its_address_only_and_its_errors_nothing() {
    let identity = Identity::from_secret_bytes(&secret("identity")).unwrap();
    keeps_quiet(&identity, &[&secret("identity")]);
    assert_eq!(format!("{identity:?}"), format!("Identity {{ user: {:?}, .. }}", identity.user()));
    let refused = Identity::from_secret_bytes(&[0xff; 32]).unwrap_err();
    says_nothing_of(&refused, &[&[0xff; 32]]);
}

#[test]
fn an_rsa_pair_prints_its_size_only() {
    let pair = RsaPair::generate(2048, &mut StdRng::seed_from_u64(5)).unwrap();
    assert_eq!(format!("{pair:?}"), "RsaPair { public: PublicKey(2048 bits), .. }");
    assert_eq!(format!("{:#?}", pair.public()), "PublicKey(2048 bits)");
}

#[test]
fn the_pipeline_of_a_subscriber_prints_no_key_it_holds_or_gives_away() {
    let mut intake = Intake::new(stream("prices"), IntakeLimits::default());
    let told = intake.key_arrived(NOW, publisher().user(), group_key("k"), Arrival::Answer);
    keeps_quiet(&told, &[&secret("k")]);
    keeps_quiet(&intake, &[&secret("k")]);
    let keep = IntakeEffect::Keep { publisher: publisher().user(), key: group_key("k"), since: NOW };
    keeps_quiet(&keep, &[&secret("k")]);
}

#[test]
fn a_key_that_is_refused_is_not_quoted() {
    let hidden = secret("k");
    says_nothing_of(&GroupKey::new(KeyId::new("k").unwrap(), &hidden[..31]).unwrap_err(), &[&hidden]);
    let cipher = MessageCipher::new(&scope(), &group_key("k"));
    let sealed = cipher.seal(b"header", &hidden, &mut StdRng::seed_from_u64(1));
    says_nothing_of(&cipher.open(b"another", &sealed).unwrap_err(), &[&hidden]);
}

#[test]
fn a_payload_and_an_opened_message_print_their_size_and_none_of_the_plaintext() {
    let (hidden, text) = (secret("plaintext"), "quicksilver, xylophones");
    let json = serde_json::json!({ "zodiac": text });
    let payloads = [
        (Payload::binary(hidden.to_vec()), hidden.to_vec()),
        (Payload::text(text), text.into()),
        (Payload::json(&json).unwrap(), json.to_string().into_bytes()),
        (Payload::json_text(json.to_string()).unwrap(), json.to_string().into_bytes()),
    ];
    for (payload, plaintext) in payloads {
        // White space is taken out of what is printed, so it is left out of what is looked for.
        let words: Vec<&[u8]> = plaintext.split(u8::is_ascii_whitespace).filter(|word| word.len() >= 4).collect();
        keeps_quiet(&payload, &words);
        assert!(format!("{payload:?}").contains(&format!("{} bytes", plaintext.len())));

        let mut intake = Intake::new(stream("prices"), IntakeLimits::default());
        intake.key_arrived(NOW, publisher().user(), group_key("k"), Arrival::Answer);
        let first = Draft { previous: None, key_updates: Vec::new(), ..draft() };
        let told = intake.message(NOW, sealed(first, &payload, &group_key("k")));
        let [IntakeEffect::Deliver(message)] = told.as_slice() else { panic!("{} effects", told.len()) };
        assert_eq!(message.payload, plaintext);
        keeps_quiet(message, &words);
        keeps_quiet(&told, &words);
        keeps_quiet(&intake, &words);
        assert!(format!("{message:?}").contains(&format!("bytes: {}", plaintext.len())));
    }
}

#[test]
fn a_payload_that_is_no_json_is_not_quoted() {
    let refused = Payload::json_text(r#"{"password": unlucky}"#).unwrap_err();
    assert!(!format!("{refused} {refused:?}").contains("unlucky"));
}

#[test]
fn a_passphrase_is_not_printed() {
    let unlock = Unlock::passphrase("correct horse battery staple");
    assert!(!format!("{unlock:?}{unlock:#?}").contains("horse"));
}

#[cfg(feature = "ethereum")]
#[test]
fn a_wrong_keystore_password_is_refused_without_being_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.json");
    crate::support::subscriber().save_keystore(&path, "the right password").unwrap();
    let refused = Identity::load_keystore(&path, "an unlucky guess").unwrap_err();
    let text = format!("{refused} {refused:?} {refused:#?}");
    assert!(!text.contains("unlucky") && !text.contains("right password"), "{text}");
    let file = std::fs::read(&path).unwrap();
    assert!(!shows(String::from_utf8(file).unwrap(), &[&[0x22; 32]]));
}
