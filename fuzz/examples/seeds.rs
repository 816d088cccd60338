//! Writes the seeds to the corpus, `fuzz/corpus/TARGET/NAME`.

use std::path::Path;

use veilcast_fuzz::seeds::seeds;

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let all = seeds();
    for seed in &all {
        let folder = corpus.join(seed.target);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(&seed.name), &seed.bytes)?;
    }
    println!("{} seeds in {}", all.len(), corpus.display());
    Ok(())
}
