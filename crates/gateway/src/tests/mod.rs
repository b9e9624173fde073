//! The door as its clients meet it, over made-up councils in this process.

mod city;
mod client;
mod credentials;
mod federation;
mod handles;
mod joint;
mod own;
mod parties;
mod sessions;
mod statements;

pub(crate) use parties::Parties;

use tonic::{Code, Status};

const ALL: &str = "SELECT car_park, spaces FROM northmoor.parking.occupancy";

fn code<T>(result: Result<T, Status>) -> Code {
    result.err().map_or(Code::Ok, |s| s.code())
}
