//! People and how they sign in: accounts, second factors, sign-ins, throttling.

pub mod account;
