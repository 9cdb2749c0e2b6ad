//! What each rule claims, what it must not claim, and how findings live.

mod arbitrary;
mod descriptors;
mod glance;
mod healthy;
mod inherited;
mod kept_alive;
mod leak;
mod limits;
mod owned;
mod stable;
mod track;
mod unreturned;

use super::{
    Confidence, Finding, Kind, Policy, Rules,
    testing::{MINUTE, MS, World},
    track::{News, Resolution, Status, Tracker},
};
use crate::event::{Cookie, Nanos, SECOND};
