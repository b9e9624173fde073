//! The parking department's datasets and products.

use std::fmt::Write as _;

pub(crate) const CAR_PARKS: &str = r#"
    dataset = "car_parks"
    source = "car_parks.csv"
    [[column]]
    name = "car_park"
    type = "text"
    [[column]]
    name = "ward"
    type = "text"
    [[column]]
    name = "spaces"
    type = "integer"
"#;

pub(crate) const SESSIONS_DATA: &str = r#"
    dataset = "sessions"
    source = "sessions.csv"
    [[column]]
    name = "vehicle"
    type = "text"
    [[column]]
    name = "car_park"
    type = "text"
    [[column]]
    name = "started"
    type = "timestamp"
    [[column]]
    name = "paid_pence"
    type = "integer"
    [[column]]
    name = "hours"
    type = "float"
    [[column]]
    name = "notes"
    type = "text"
"#;

/// An open product with a column of every class but `secret`.
pub(crate) const PLACES: &str = r#"
    name = "places"
    version = 3
    class = "open"
    purposes = ["transport_planning"]
    view = "SELECT car_park, ward, spaces FROM car_parks"
    [columns]
    car_park = { class = "identifier" }
    ward = { class = "open" }
    spaces = { class = "measure" }
"#;

/// A restricted product with a row filter, a mask and a secret.
pub(super) const VISITS: &str = r#"
    name = "visits"
    version = 1
    class = "restricted"
    purposes = ["transport_planning"]
    view = "SELECT car_park, started, paid_pence, hours, notes FROM sessions"
    row_filter = "paid_pence >= 0"
    [columns]
    car_park = { class = "quasi" }
    started = { class = "open", mask = "date_trunc('month', started)" }
    paid_pence = { class = "open" }
    hours = { class = "open" }
    notes = { class = "secret" }
"#;

pub(super) fn car_parks() -> String {
    "car_park,ward,spaces\nP1,Kinson,100\nP2,Boscombe,40\nP3,Kinson,60\n".to_owned()
}

/// Twelve vehicles in Kinson, of which one stays often and pays much, one without a name and nine without a
/// payment in January; nine in Boscombe.
pub(crate) fn sessions() -> String {
    let mut csv = "vehicle,car_park,started,paid_pence,hours,notes\n".to_owned();
    for v in 0..12 {
        writeln!(
            csv,
            "K{v},P1,2026-02-0{} 10:00:00,{},0.1,canary",
            v % 9 + 1,
            100 + v
        )
        .unwrap();
        let paid = if v < 3 { "100" } else { "" };
        writeln!(csv, "K{v},P3,2026-01-05 11:00:00,{paid},0.2,canary").unwrap();
    }
    for _ in 0..50 {
        writeln!(csv, "K0,P1,2026-02-03 12:00:00,1000,1.5,canary").unwrap();
    }
    writeln!(csv, ",P1,2026-02-03 12:00:00,7000,1.0,canary").unwrap();
    for v in 0..9 {
        writeln!(csv, "B{v},P2,2026-02-01 10:00:00,{},0.3,canary", 100 + v).unwrap();
    }
    writeln!(csv, "X,P2,2026-02-01 10:00:00,-5,0.3,canary").unwrap();
    csv
}
