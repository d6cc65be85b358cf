//! The SDK against a gateway and a control process that do what the test tells them.

mod changeover;
mod control;
mod credential;
mod fake_gateway;
mod session;
