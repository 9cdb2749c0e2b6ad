//! The fast part of the corpus: eight applications, leaking and healthy, of which the agent's opinion is not in doubt.
//!
//! What it proves is that labels, servers, applications and the comparison work together. How often the agent is
//! right is another question, and the whole corpus's: `cargo xtask corpus`, `docs/accuracy.md`.

#![forbid(unsafe_code)]

use anyhow::{Result, ensure};
use connleak_tests::{
    corpus::{self, labels, page, score},
    require_root, root,
};

#[test]
fn root_the_fast_part_of_the_corpus_is_judged_as_before() -> Result<()> {
    require_root!();
    let fast: Vec<_> = labels::load()?
        .into_iter()
        .filter(|scenario| scenario.fast)
        .collect();
    let records = corpus::run_all(&fast, 4, |result| match result {
        Ok(record) => root::say(&page::progress(record)),
        Err(error) => root::say(&format!("{error:#}")),
    })?;
    for record in &records {
        ensure!(
            score::is_right(record) && record.lost == 0 && record.replay.equal,
            "{}: {:#?}",
            record.scenario.name,
            record.verdict
        );
    }
    Ok(())
}
