//! The door as its clients meet it, over made-up councils in this process.

mod city;
mod door;
mod federation;
mod own;

pub(crate) use city::Parties;
