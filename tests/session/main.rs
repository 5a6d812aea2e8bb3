//! The rules of the design on the whole stack, for a bare client: connector,
//! session, tokio-postgres, against a server that plays its part step by step.
//!
//! One module a rule, by the design's number, or a theme. Time is paused, so
//! that it can be told exactly when each thing happened; what only several
//! threads or a real server can show is tested elsewhere. [`stage`] has what
//! all of them use.

mod ended_already;
mod events;
mod exit;
mod regressions;
mod rule_01_prompt;
mod rule_01_stalled;
mod rule_02_bounded;
mod rule_03_aimed;
mod rule_04_proven;
mod rule_04_rollback;
mod rule_05_persistent;
mod rule_06_queued;
mod rule_06_transaction;
mod rule_07_collateral;
mod rule_08_left_behind;
mod rule_09_same_door;
mod rule_10_storm;
mod rule_11_told_apart;
mod rule_13_copy;
mod rule_13_drained;
mod rule_14_asked_for;
mod stage;
