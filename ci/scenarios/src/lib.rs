//! What is shown and tested on whole clusters, as code that only says what happens and what must hold; how machines and networks
//! are run is the business of `harness`.
//!
//! - [`demo`]: the demonstration: a node dies while clients write, nothing acknowledged is lost, everything comes back;
//! - [`faults`]: other faults, and nodes that must be refused;
//! - [`suite`]: all tests in their order, [`tally`]: their results;
//! - [`watch`]: the status lines by which a scenario knows what the cluster itself believes.
#![forbid(unsafe_code)]

pub mod demo;
pub mod faults;
pub mod suite;
pub mod tally;
pub mod watch;
