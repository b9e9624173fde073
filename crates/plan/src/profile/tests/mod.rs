mod hostile;
mod round_trip;
pub(crate) mod town;
