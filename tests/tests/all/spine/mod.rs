//! The spine: one emergency from request to closed incident, with control, gateway and connector in this process, a real
//! sshd and the stock client.

mod emergency;
mod evidence;
pub(crate) mod world;
