//! The decoders of what lies on disk, as the fuzz targets see them. Each says whether the bytes are what it decodes, and
//! panics when what it read is not what it would write.

/// The header, its checksum apart.
pub fn header(data: &[u8]) -> bool {
    crate::sled_store::reads_header(data)
}

/// A slot of the state file, opened.
pub fn state(data: &[u8]) -> bool {
    crate::sled_store::reads_state(data)
}

/// What is written about a key, opened.
pub fn record(data: &[u8]) -> bool {
    crate::ledger::reads_record(data)
}

/// Where a record lies.
pub fn place(data: &[u8]) -> bool {
    crate::ledger::reads_place(data)
}

/// The head of a portable file, its checksum apart.
pub fn portable_header(data: &[u8]) -> bool {
    crate::portable::reads_header(data)
}

/// What stands in a portable file, opened.
pub fn portable_item(data: &[u8]) -> bool {
    crate::portable::reads_item(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replay(name: &str, target: fn(&[u8]) -> bool) {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
        let inputs = std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
        let (taken, refused): (Vec<_>, Vec<_>) = inputs.partition(|input| target(input));
        assert!(!taken.is_empty() && !refused.is_empty(), "{name}: {} taken, {} not", taken.len(), refused.len());
    }

    #[test]
    fn no_input_of_the_corpus_breaks_a_decoder_of_what_lies_on_disk() {
        replay("store_header", header);
        replay("store_state", state);
        replay("store_record", record);
        replay("store_place", place);
        replay("portable_header", portable_header);
        replay("portable_item", portable_item);
    }
}
