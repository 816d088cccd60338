//! What lies on disk: keystores, the registry's records, the key store's files, blocks of messages.

use super::Seed;

pub(super) fn seeds() -> Vec<Seed> {
    [keystores(), registry(), store(), portable(), blocks()].concat()
}

/// Web3 Secret Storage with costs that a fuzzer can afford. The MACs fit no password but for `opens`.
fn keystores() -> Vec<Seed> {
    let with = |kdf: &str, params: &str| {
        format!(
            r#"{{"version":3,"id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","address":"008aeeda4d805471df9b2a5b0f38a0c3bcba786b",
"crypto":{{"cipher":"aes-128-ctr","cipherparams":{{"iv":"6087dab2f9fdbbfaddc31a909735c1e6"}},
"ciphertext":"5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
"kdf":"{kdf}","kdfparams":{params},"mac":"517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"}}}}"#
        )
    };
    let salt = r#""dklen":32,"salt":"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd""#;
    let scrypt = |n: u64, r: u64, p: u64| with("scrypt", &format!(r#"{{"n":{n},"r":{r},"p":{p},{salt}}}"#));
    let pbkdf2 = |c: u64| with("pbkdf2", &format!(r#"{{"c":{c},"prf":"hmac-sha256",{salt}}}"#));
    let all = [
        ("opens", OPENS.into()),
        ("scrypt", scrypt(64, 4, 1)),
        ("scrypt_narrow", scrypt(1 << 20, 1, 1)),
        ("scrypt_odd", scrypt(63, 8, 1)),
        ("scrypt_absurd", scrypt(1 << 40, 8, 1)),
        ("pbkdf2", pbkdf2(16)),
        ("pbkdf2_none", pbkdf2(0)),
        ("no_salt", with("scrypt", r#"{"n":64,"r":4,"p":1,"dklen":32,"salt":""}"#)),
        ("cut", scrypt(64, 4, 1)[..300].to_owned()),
    ];
    all.into_iter().map(|(name, text)| Seed::new("keystore", name, text)).collect()
}

/// The identity of 32 times 0x22 under the password of the target.
const OPENS: &str = r#"{"version":3,"id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","crypto":{"cipher":"aes-128-ctr",
"cipherparams":{"iv":"000102030405060708090a0b0c0d0e0f"},
"ciphertext":"0c46fad21102d911a4fb0a99c1513d873d499326dd3e1da7e269a76b359ef72b","kdf":"scrypt",
"kdfparams":{"n":64,"r":4,"p":1,"dklen":32,"salt":"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"},
"mac":"b9bae6774c5c70337d3fd4cc8465435750aa1568c2e2898be1cbf450b6e53bb5"}}"#;

fn registry() -> Vec<Seed> {
    let texts = [
        ("stream", r#"{"partitions":3,"public":false}"#),
        ("stream_public", r#"{"partitions":100,"public":true,"public_until":1900000000000}"#),
        ("stream_many", r#"{"partitions":4294967296,"public":false}"#),
        ("grant", r#"{"start":null,"end":null,"revoked":null,"before":null}"#),
        ("grant_now", r#"{"start":1800000000000,"end":2000000000000,"revoked":null}"#),
        ("grant_over", r#"{"start":1800000000000,"end":1800000000001,"revoked":1800000000001,"before":1}"#),
        ("grant_backwards", r#"{"start":18446744073709551615,"end":0,"revoked":null}"#),
        ("grant_without_end", r#"{"start":1800000000000,"revoked":null}"#),
        ("grant_and_stream", r#"{"partitions":1,"public":false,"start":0,"end":18446744073709551615,"revoked":null}"#),
    ];
    texts.into_iter().map(|(name, text)| Seed::new("registry", name, text)).collect()
}

/// The layouts of key-store/src, written out by hand.
fn store() -> Vec<Seed> {
    let number = |n: u64| n.to_be_bytes().to_vec();
    let header = [b"VLCSTORE\x01\x01".as_slice(), &[0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 1], &[7; 16 + 24 + 48]].concat();
    let newer = [b"VLCSTORE\x02".as_slice(), b"whatever that will be"].concat();
    let state = |closed: u8, rest: [u8; 40]| [number(5), number(4), number(4096), vec![closed], rest.to_vec()].concat();
    let of_key = |has_until: u8, origin: u8| {
        [vec![0xaa; 32], number(1), vec![has_until], number(u64::from(has_until) * 2), vec![origin]].concat()
    };
    let in_time =
        |since: u64, id: &[u8]| [number(since), vec![1], number(9), vec![id.len() as u8], id.to_vec()].concat();
    let scope = [[1; 20].as_slice(), &3_u32.to_be_bytes(), b"o/p"].concat();
    vec![
        Seed::new("store_header", "passphrase", header.clone()),
        Seed::new("store_header", "cut", &header[..60]),
        Seed::new("store_header", "newer", newer),
        Seed::new("store_header", "empty", Vec::new()),
        Seed::new("store_state", "open", state(0, [0; 40])),
        Seed::new("store_state", "closed", state(1, [3; 40])),
        Seed::new("store_state", "neither", state(2, [3; 40])),
        Seed::new("store_state", "cut", &state(1, [3; 40])[..50]),
        Seed::new("store_record", "key", of_key(0, 1)),
        Seed::new("store_record", "ended_key", of_key(1, 2)),
        Seed::new("store_record", "key_of_no_origin", of_key(1, 4)),
        Seed::new("store_record", "current", [number(1), b"k".to_vec()].concat()),
        Seed::new("store_record", "current_nameless", number(1)),
        Seed::new("store_record", "sheet", [in_time(1, b"tk1"), in_time(2, b"tk0")].concat()),
        Seed::new("store_record", "sheet_out_of_order", [in_time(2, b"tk0"), in_time(1, b"tk1")].concat()),
        Seed::new("store_place", "key", [b"k".as_slice(), &scope, b"h", &[1; 16]].concat()),
        Seed::new("store_place", "key_by_text", [b"k".as_slice(), &scope, b"tmorning"].concat()),
        Seed::new("store_place", "key_cut", [b"k".as_slice(), &scope[..22]].concat()),
        Seed::new("store_place", "in_time", [b"o".as_slice(), &scope, &number(9), b"k"].concat()),
        Seed::new("store_place", "in_time_nameless", [b"o".as_slice(), &scope, &number(9)].concat()),
    ]
}

/// The layouts of key-store/src/portable, written out by hand.
fn portable() -> Vec<Seed> {
    let head = |version: u8, kind: u8| {
        let cost = [0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 1];
        [b"VLCSAVED".as_slice(), &[version, 0, 163, kind], &cost, &[7; 16 + 19 + 24 + 48]].concat()
    };
    let key_record = [[0xaa; 32].as_slice(), &1_u64.to_be_bytes(), &[0; 9], &[1]].concat();
    let key = |current: u8| {
        let current = [vec![current], u64::from(current).to_be_bytes().to_vec()].concat();
        [[1].as_slice(), &[0x11; 20], &current, b"\x01k", &key_record, b"o/p"].concat()
    };
    let record = b"\x02\x00\x00\x00\x01t\x00\x00\x00\x01kvalue".as_slice();
    vec![
        Seed::new("portable_header", "backup", head(1, 1)),
        Seed::new("portable_header", "keys", head(1, 2)),
        Seed::new("portable_header", "newer", head(2, 1)),
        Seed::new("portable_header", "unknown_kind", head(1, 9)),
        Seed::new("portable_header", "cut", &head(1, 1)[..40]),
        Seed::new("portable_item", "key", key(0)),
        Seed::new("portable_item", "current_key", key(1)),
        Seed::new("portable_item", "key_neither_current_nor_not", key(2)),
        Seed::new("portable_item", "record", record),
        Seed::new("portable_item", "record_cut", &record[..7]),
        Seed::new("portable_item", "file", b"\x03\x01f contents".as_slice()),
        Seed::new("portable_item", "unknown", b"\x09".as_slice()),
    ]
}

/// The layout of sdk/src/storage/sled_engine/block.rs, written out by hand.
fn blocks() -> Vec<Seed> {
    let entry = |place: u8, end: u32| [[place; 48].as_slice(), &end.to_be_bytes()].concat();
    let block = |version: u8, count: u32, rest: &[u8]| {
        let summed = [count.to_be_bytes().as_slice(), rest].concat();
        [&[version], crc32fast::hash(&summed).to_be_bytes().as_slice(), &summed].concat()
    };
    let two = [entry(1, 2), entry(2, 3), b"abc".to_vec()].concat();
    let whole = block(1, 2, &two);
    let turned = [entry(2, 2), entry(1, 3), b"abc".to_vec()].concat();
    let back = [entry(1, 3), entry(2, 2), b"ab".to_vec()].concat();
    vec![
        Seed::new("stored_block", "one", block(1, 1, &entry(7, 0))),
        Seed::new("stored_block", "two", whole.clone()),
        Seed::new("stored_block", "cut", &whole[..whole.len() - 1]),
        Seed::new("stored_block", "other_sum", [&[1, 0, 0, 0, 0], &whole[5..]].concat()),
        Seed::new("stored_block", "newer", block(2, 2, &two)),
        Seed::new("stored_block", "none", block(1, 0, &[])),
        Seed::new("stored_block", "too_many", block(1, u32::MAX, &two)),
        Seed::new("stored_block", "more_than_its_entries", block(1, 1, &two)),
        Seed::new("stored_block", "out_of_order", block(1, 2, &turned)),
        Seed::new(
            "stored_block",
            "same_place_twice",
            block(1, 2, &[entry(1, 2), entry(1, 3), b"abc".to_vec()].concat()),
        ),
        Seed::new("stored_block", "ends_before_it_begins", block(1, 2, &back)),
    ]
}
