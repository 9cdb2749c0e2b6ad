//! What does it cost? Everything that `docs/performance.md` says is measured here, on this machine, in one go.
//!
//! Times depend on the machine and on who else uses it; ratios do so less. So whatever is compared is measured in
//! turn, A B A B …, and each round's difference is taken within the round ([`figures`]). The loads are processes of their
//! own ([`load`]), the peers are what people use today ([`tool`]), and each row of the page is one function ([`rows`])
//! that says what it reached and what that was measured against. Why a reach was missed is in `notes.toml`, since a
//! program cannot know.

pub mod figures;
pub mod load;
pub mod page;
pub mod process;
pub mod rows;
pub mod tool;
pub mod tracefs;

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use figures::Estimate;

/// How much time there is.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Rounds of each comparison.
    pub rounds: usize,
    /// How long one load runs.
    pub turn: Duration,
    /// Rounds where a few percent are looked for: many short ones, since what disturbs this machine lasts for seconds.
    pub many: usize,
    /// How long a load runs in those.
    pub short: Duration,
    /// How long the agent is left alone.
    pub rest: Duration,
    /// What `cargo bench --bench growth` printed.
    pub growth: Option<PathBuf>,
}

impl Plan {
    /// Rounds where a few percent are looked for and a load can't be short: it is a process of its own each time.
    #[must_use]
    pub fn fewer(&self) -> usize {
        (self.many * 2).div_ceil(3)
    }

    /// What the page is made from.
    #[must_use]
    pub fn full() -> Self {
        Self {
            rounds: 9,
            turn: Duration::from_millis(1500),
            many: 31,
            short: Duration::from_millis(500),
            rest: Duration::from_mins(2),
            growth: None,
        }
    }

    /// Whether it works at all: figures are worth little.
    #[must_use]
    pub fn quick() -> Self {
        Self {
            rounds: 3,
            turn: Duration::from_millis(500),
            many: 6,
            short: Duration::from_millis(300),
            rest: Duration::from_secs(20),
            growth: None,
        }
    }
}

/// Whether a reach was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was.
    Reached,
    /// It was not.
    Missed,
    /// Nothing was measured, and why.
    Unmeasured(String),
}

/// One row of the page.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its key in `notes.toml`.
    pub id: &'static str,
    /// What is measured.
    pub what: String,
    /// What is to be reached.
    pub reach: String,
    /// What was measured, in one phrase.
    pub result: String,
    /// Whether it was reached.
    pub outcome: Outcome,
}

impl Row {
    /// A measured row.
    #[must_use]
    pub fn new(id: &'static str, what: &str, reach: &str, result: String, reached: bool) -> Self {
        Self {
            id,
            what: what.to_owned(),
            reach: reach.to_owned(),
            result,
            outcome: if reached {
                Outcome::Reached
            } else {
                Outcome::Missed
            },
        }
    }

    /// A row of a share that is lost, in percent, of which at most `most` may be. Says so where the measurement is not fine
    /// enough to tell.
    #[must_use]
    pub fn lost(id: &'static str, what: &str, lost: Estimate, most: f64) -> Self {
        let result = lost.show(1, " %") + lost.doubt(most);
        let reach = format!("≤ {most} % of throughput");
        Self::new(id, what, &reach, result, lost.median <= most)
    }

    /// A row that could not be measured.
    #[must_use]
    pub fn unmeasured(id: &'static str, what: &str, reach: &str, why: impl Into<String>) -> Self {
        Self {
            id,
            what: what.to_owned(),
            reach: reach.to_owned(),
            result: String::new(),
            outcome: Outcome::Unmeasured(why.into()),
        }
    }
}

/// What one subject gave: its rows, and the measurements behind them as lines of a table.
#[derive(Debug, Default)]
pub struct Chapter {
    /// Rows of the page's table.
    pub rows: Vec<Row>,
    /// `what | figure` of everything that was measured.
    pub details: Vec<(String, String)>,
}

/// A subject that can be measured alone.
pub struct Subject {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its heading on the page.
    pub title: &'static str,
    /// How the loads work.
    pub method: &'static str,
    /// Measures it.
    pub measure: fn(&Plan) -> Result<Chapter>,
}
