//! A walk over all descriptors: one process after another, while the world goes on.

use super::*;
use crate::event::Snapshot;

pub(super) struct Walk {
    began: Nanos,
    next: usize,
    rows: Vec<Observation>,
}

impl World {
    pub(super) fn walked(&self) -> bool {
        self.stream
            .iter()
            .any(|event| matches!(event, Event::Snapshot(_)))
    }

    pub(super) fn begin_walk(&mut self) {
        if self.attached && self.walk.is_none() {
            self.walk = Some(Walk {
                began: self.tick(),
                next: 0,
                rows: Vec::new(),
            });
        }
    }

    pub(super) fn visit(&mut self, lag: Nanos) {
        let at = self.tick() + lag;
        let Some(mut walk) = self.walk.take() else { return };
        if let Some(Some(process)) = self.processes.get(walk.next) {
            for (&holder, &cookie) in self
                .descriptors
                .iter()
                .filter(|(held, _)| held.process == *process)
            {
                walk.rows.extend(self.row(at, holder, cookie));
            }
        }
        walk.next += 1;
        self.walk = Some(walk);
    }

    fn row(&self, at: Nanos, holder: Holder, cookie: u64) -> Option<Observation> {
        let socket = &self.sockets[&cookie];
        let unix = socket.unix;
        let state = match socket.phase {
            Phase::Idle => return None,
            Phase::Refused => State::Closed,
            phase => phase.state()?,
        };
        // Each connection carries data as soon as it is established. One that never did and was then reset
        // looks in a row like one that was refused: if the events are lost, too, nobody can tell.
        let bytes = u64::from(!matches!(socket.phase, Phase::Refused | Phase::Connecting));
        let blank = if unix { unix_row } else { row }(0, cookie, 0, 0);
        Some(Observation {
            at,
            holder,
            state,
            traffic: Traffic {
                bytes_sent: (!unix).then_some(bytes),
                ..Traffic::default()
            },
            ..blank
        })
    }

    pub(super) fn merge(&mut self) {
        while self.walk.as_ref().is_some_and(|walk| walk.next < SLOTS) {
            self.visit(0);
        }
        if let Some(walk) = self.walk.take() {
            let newest = walk.rows.iter().map(|row| row.at).max().unwrap_or(0);
            self.now = self.now.max(newest);
            let snapshot = Snapshot {
                open_only: false,
                began: walk.began,
                ended: self.tick(),
                observations: walk.rows,
            };
            self.stream.push(Event::Snapshot(snapshot));
        }
    }
}
