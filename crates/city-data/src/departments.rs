//! The city's folder.

use crate::city::{Council, council};
use crate::files::{Csv, column, money, or_blank, save, save_parquet, thousands};
use crate::rhythm::{iso, local, uk_minute};
use crate::{CityError, CityOptions};
use arrow::array::{Int64Array, StringArray, TimestampMicrosecondArray};
use std::fmt::Write as _;
use std::path::Path;

/// A department of the made-up city.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Department {
    /// Car parks, their occupancy, paid stays.
    Parking,
    /// Wards, streets, traffic.
    Highways,
    /// Air quality.
    Environment,
    /// Adult social care.
    SocialCare,
    /// Tenancies and council tax.
    Housing,
}

/// A file of a department's folder, as it stands in `templates/`.
type Template = (&'static str, &'static str);

macro_rules! templates {
    ($department:literal: $($file:literal),*) => {
        &[$(($file, include_str!(concat!("../templates/", $department, "/", $file)))),*]
    };
}

impl Department {
    /// Its name, and that of its folder.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Parking => "parking",
            Self::Highways => "highways",
            Self::Environment => "environment",
            Self::SocialCare => "social_care",
            Self::Housing => "housing",
        }
    }

    fn templates(self) -> &'static [Template] {
        match self {
            Self::Parking => {
                templates!("parking": "imports/car_parks.toml", "imports/occupancy.toml",
                "imports/sessions.toml", "products/car_parks.toml", "products/occupancy.toml",
                "products/sessions.toml")
            }
            Self::Highways => templates!("highways": "imports/wards.toml", "imports/streets.toml",
                "imports/traffic_counts.toml", "products/wards.toml", "products/streets.toml",
                "products/traffic_counts.toml"),
            Self::Environment => templates!("environment": "imports/sensors.toml",
                "imports/air_quality.toml", "products/air_quality.toml"),
            Self::SocialCare => {
                templates!("social_care": "imports/cases.toml", "products/cases.toml")
            }
            Self::Housing => {
                templates!("housing": "imports/tenancies.toml", "imports/council_tax.toml",
                "products/tenancies.toml", "products/council_tax.toml")
            }
        }
    }

    fn write_data(self, council: &Council, imports: &Path) -> Result<(), CityError> {
        match self {
            Self::Parking => parking(council, imports),
            Self::Highways => highways(council, imports),
            Self::Environment => environment(council, imports),
            Self::SocialCare => social_care(council, imports),
            Self::Housing => housing(council, imports),
        }
    }
}

/// What the `index`-th council runs: social care in one, housing in the next.
fn departments_of(options: &CityOptions, index: usize) -> Vec<Department> {
    let people = if index.is_multiple_of(2) {
        Department::SocialCare
    } else {
        Department::Housing
    };
    [
        Department::Parking,
        Department::Highways,
        Department::Environment,
        people,
    ]
    .into_iter()
    .filter(|d| {
        options
            .departments
            .as_ref()
            .is_none_or(|wanted| wanted.contains(d))
    })
    .collect()
}

/// Writes the city's folder; it appears whole or not at all. `folder` must not exist.
pub fn write(folder: &Path, options: &CityOptions) -> Result<(), CityError> {
    let failed = |source| CityError::Write {
        path: folder.to_owned(),
        source,
    };
    let parent = folder
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(failed)?;
    let building = tempfile::tempdir_in(parent).map_err(failed)?;
    let mut city = String::from(HEAD);
    for index in 0..options.councils {
        let council = council(options, index)?;
        let _infallible = write!(
            city,
            "\n[[council]]\nname = \"{}\"\npurposes = {PURPOSES}\n",
            council.name
        );
        for department in departments_of(options, index) {
            let _infallible = write!(
                city,
                "\n[[council.department]]\nname = \"{}\"\n",
                department.name()
            );
            let home = building.path().join(council.name).join(department.name());
            for sub in ["imports", "products"] {
                std::fs::create_dir_all(home.join(sub)).map_err(failed)?;
            }
            for (file, text) in department.templates() {
                save(&home.join(file), text.as_bytes())?;
            }
            department.write_data(&council, &home.join("imports"))?;
        }
    }
    if options.departments.is_none() {
        city.push_str(ACCOUNTS);
        city.push_str(if options.councils > 1 { QUESTIONS } else { "" });
    } else {
        city.push_str(ACCOUNTS);
    }
    save(&building.path().join("city.toml"), city.as_bytes())?;
    std::fs::rename(building.keep(), folder).map_err(failed)
}

const HEAD: &str = "# A made-up city. No person, vehicle or place in it is real.\n\nopen_product = \"northmoor.parking.occupancy\"\n";

const PURPOSES: &str = "[\"transport_planning\", \"air_quality\", \"care_planning\", \"housing_need\", \"development\", \"product_check\"]";

const ACCOUNTS: &str = include_str!("../templates/accounts.toml");
const QUESTIONS: &str = include_str!("../templates/questions.toml");

fn parking(council: &Council, to: &Path) -> Result<(), CityError> {
    let mut parks = Csv::new(&["car_park", "name", "ward", "spaces"]);
    for p in &council.car_parks {
        parks.row(&[
            p.car_park.clone(),
            p.name.clone(),
            p.ward.clone(),
            thousands(p.spaces.unsigned_abs()),
        ]);
    }
    parks.save_with_mark(&to.join("car_parks.csv"))?;

    let rows = &council.occupancy;
    save_parquet(
        &to.join("occupancy.parquet"),
        [
            (
                "car_park",
                column(StringArray::from_iter_values(
                    rows.iter().map(|o| &o.car_park),
                )),
            ),
            (
                "ts",
                column(TimestampMicrosecondArray::from_iter_values(
                    rows.iter().map(|o| o.ts * 1_000_000),
                )),
            ),
            (
                "occupied",
                column(Int64Array::from_iter_values(
                    rows.iter().map(|o| o.occupied),
                )),
            ),
        ],
    )?;

    let mut sessions = Csv::new(&[
        "Session No",
        "VRM",
        "Car Park",
        "Start",
        "Stay (min)",
        "Paid",
        "Channel",
    ]);
    for (i, s) in council.sessions.iter().enumerate() {
        let mut row = [
            s.session.to_string(),
            s.vehicle.clone(),
            s.car_park.clone(),
            uk_minute(s.started),
            or_blank(s.minutes, ""),
            or_blank(s.paid_pence.map(|p| format!("£{}", money(p))), "N/A"),
            s.channel.to_owned(),
        ];
        sessions.row(&row);
        // Now and then a row that is none: the reader must set it aside.
        if i % 1_009 == 500 {
            "32/13/2026 25:61".clone_into(&mut row[3]);
            sessions.row(&row);
        }
    }
    sessions.save_gzip(&to.join("sessions.csv.gz"))
}

fn highways(council: &Council, to: &Path) -> Result<(), CityError> {
    let mut wards = Csv::new(&["ward", "name", "population", "area_km2"]);
    for w in &council.wards {
        let people = thousands(w.population.unsigned_abs());
        wards.row(&[
            w.ward.clone(),
            w.name.clone(),
            people,
            w.area_km2.to_string(),
        ]);
    }
    wards.save(&to.join("wards.csv"))?;

    let mut streets = Csv::new(&["USRN", "Street", "Ward", "Length (m)"]);
    for s in &council.streets {
        streets.row(&[
            s.usrn.to_string(),
            s.street.clone(),
            s.ward.clone(),
            s.length_m.to_string(),
        ]);
    }
    streets.save_windows_1252(&to.join("streets.csv"))?;

    let mut counts = Csv::new(&["counter", "usrn", "ts", "vehicles", "mean_kph"]);
    for (i, c) in council.counts.iter().enumerate() {
        // The second half was exported after an upgrade, with another date format.
        let ts = if i < council.counts.len() / 2 {
            uk_minute(c.ts)
        } else {
            iso(c.ts)
        };
        let vehicles = or_blank(c.vehicles.map(|v| thousands(v.unsigned_abs())), "");
        counts.row(&[
            c.counter.clone(),
            c.usrn.to_string(),
            ts,
            vehicles,
            or_blank(c.mean_kph, ""),
        ]);
    }
    counts.save_gzip(&to.join("traffic_counts.csv.gz"))
}

fn environment(council: &Council, to: &Path) -> Result<(), CityError> {
    let mut sensors = Csv::new(&["sensor", "ward", "site"]);
    for s in &council.sensors {
        sensors.row(&[s.sensor.as_str(), s.ward.as_str(), s.site]);
    }
    sensors.save(&to.join("sensors.csv"))?;

    let mut readings = Csv::new(&["sensor", "ts", "no2", "pm2.5"]);
    for r in &council.readings {
        readings.row(&[
            r.sensor.clone(),
            iso(r.ts),
            or_blank(r.no2, "ND"),
            or_blank(r.pm25, "ND"),
        ]);
    }
    readings.save_gzip(&to.join("air_quality.csv.gz"))
}

fn social_care(council: &Council, to: &Path) -> Result<(), CityError> {
    let mut cases = Csv::new(&[
        "case_ref",
        "person",
        "ward",
        "age_band",
        "need",
        "opened",
        "weekly_cost",
    ]);
    for (i, c) in council.cases.iter().enumerate() {
        let form = if i % 3 == 0 { "%d-%b-%y" } else { "%d/%m/%Y" };
        let mut row = vec![
            c.case_ref.clone(),
            c.person.clone(),
            c.ward.clone(),
            or_blank(c.age_band, "not known"),
            c.need.to_owned(),
            local(c.opened).format(form).to_string(),
            or_blank(c.weekly_pence.map(money), ""),
        ];
        cases.row(&row);
        if i % 700 == 350 {
            row.truncate(3);
            cases.row(&row);
        }
    }
    cases.save(&to.join("cases.csv"))
}

fn housing(council: &Council, to: &Path) -> Result<(), CityError> {
    let mut tenancies = Csv::new(&["household", "ward", "bedrooms", "Weekly rent", "Arrears"]);
    for t in &council.tenancies {
        tenancies.row(&[
            t.household.clone(),
            t.ward.clone(),
            or_blank(t.bedrooms, "-"),
            format!("£{}", money(t.rent_pence)),
            or_blank(t.arrears_pence.map(money), ""),
        ]);
    }
    tenancies.save(&to.join("tenancies.csv"))?;

    let mut tax = Csv::new(&["account", "ward", "band", "charge", "paid"]);
    for a in &council.tax {
        tax.row(&[
            a.account.clone(),
            a.ward.clone(),
            a.band.to_owned(),
            money(a.charge_pence),
            money(a.paid_pence),
        ]);
    }
    tax.save_gzip(&to.join("council_tax.csv.gz"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut todo = vec![folder.to_owned()];
        while let Some(dir) = todo.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    todo.push(path);
                } else {
                    let name = path.strip_prefix(folder).unwrap().display().to_string();
                    found.insert(name, std::fs::read(&path).unwrap());
                }
            }
        }
        found
    }

    #[test]
    fn the_same_options_write_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let options = CityOptions {
            scale: 0.05,
            ..CityOptions::default()
        };
        write(&dir.path().join("a"), &options).unwrap();
        write(&dir.path().join("b"), &options).unwrap();
        let (a, b) = (files(&dir.path().join("a")), files(&dir.path().join("b")));
        assert!(a.len() > 30);
        assert_eq!(a, b);
    }

    #[test]
    fn a_city_can_be_one_department_of_four_councils() {
        let dir = tempfile::tempdir().unwrap();
        let options = CityOptions {
            scale: 0.05,
            councils: 4,
            departments: Some(vec![Department::Parking]),
            ..CityOptions::default()
        };
        write(&dir.path().join("city"), &options).unwrap();
        let found = files(&dir.path().join("city"));
        assert_eq!(
            found
                .keys()
                .filter(|f| f.ends_with("imports/occupancy.toml"))
                .count(),
            4
        );
        assert!(!found.keys().any(|f| f.contains("highways")));
    }
}
