//! The frozen vectors of the sdk: what other implementations were told to make.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Seed;

pub(super) fn seeds() -> Vec<Seed> {
    let mut all = Vec::new();
    for (file, target) in [
        ("message", "message"),
        ("key_request", "request"),
        ("key_answer", "answer"),
        ("key_push", "push"),
        ("key_receipt", "receipt"),
        ("publisher_record", "record"),
        ("stream_record", "stream_record"),
        ("signed_grant", "signed_grant"),
        ("resend_request", "resend_request"),
        ("resend_page", "resend_page"),
        ("storage_record", "storage_record"),
        ("audit_head", "audit_head"),
    ] {
        let vectors = read(file);
        all.extend(of(target, file, bytes(&vectors, "content")));
        all.extend(of("envelope", file, bytes(&vectors, "envelope").into_iter().take(3)));
    }
    all.extend(of("frame", "frame", bytes(&read("frame"), "frame")));
    // One of each dozen: there are hundreds, of a few kinds.
    all.extend(of("envelope", "refused", bytes(&read("refused"), "envelope").into_iter().step_by(12)));
    for field in ["id", "part", "topic"] {
        all.extend(of("names", field, texts(&read("stream_id"), field).into_iter().map(String::into_bytes)));
    }
    for bits in ["1024", "2047", "4104", "8192"] {
        let der = std::fs::read_to_string(folder().join(format!("rsa_public_{bits}.hex"))).expect("a vector");
        all.push(Seed::new("public_key", format!("rsa_{bits}"), hex::decode(der.trim()).expect("hex")));
    }
    all.extend(of("public_key", "transport", bytes(&read("transport"), "public_key")));
    all
}

fn of(target: &'static str, name: &str, inputs: impl IntoIterator<Item = Vec<u8>>) -> Vec<Seed> {
    let numbered = inputs.into_iter().enumerate();
    numbered.map(|(n, input)| Seed::new(target, format!("{name}_vector_{n}"), input)).collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk/tests/vectors")
}

fn read(name: &str) -> Value {
    let file = std::fs::read(folder().join(format!("{name}.json"))).expect("a vector file");
    serde_json::from_slice(&file).expect("JSON")
}

/// Every text under this name, at any depth.
fn texts(value: &Value, name: &str) -> Vec<String> {
    match value {
        Value::Object(fields) => {
            let here = fields.get(name).and_then(Value::as_str).map(str::to_owned);
            here.into_iter().chain(fields.values().flat_map(|field| texts(field, name))).collect()
        }
        Value::Array(entries) => entries.iter().flat_map(|entry| texts(entry, name)).collect(),
        _ => Vec::new(),
    }
}

fn bytes(value: &Value, name: &str) -> Vec<Vec<u8>> {
    texts(value, name).iter().filter_map(|text| hex::decode(text).ok()).collect()
}
