//! The door as its clients meet it, over made-up councils in this process.

mod city;
mod door;
mod federation;

pub(crate) use city::Parties;
