//! `connleak policy`: the policy that a call would judge by, as a policy file.

use anyhow::Result;
use clap::Args as ClapArgs;

use super::{
    OK,
    args::{ExitArgs, PolicyArgs},
};
use crate::{output::sink, policy_file};

#[derive(ClapArgs, Debug)]
pub struct Args {
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    exit: ExitArgs,
}

pub fn run(args: &Args) -> Result<u8> {
    let mut policy = args.policy.over(None)?;
    args.exit.turn(&mut policy);
    sink::print(&policy_file::commented(&policy))?;
    Ok(OK)
}
