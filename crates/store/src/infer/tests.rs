use super::*;
use crate::spec::ColumnSpec;

#[test]
fn types_are_read_off_the_values() {
    let inferred = of(
        "System Code,Occupancy,Amount,LastUpdated,Paid,Open,Postcode,Notes\n\
         0012,61,\"£1,234.50\",2016-10-04 07:59:42,04/10/2016,Yes,BH1 1AA,\n\
         0013,64,-£3.00,2016-10-04 08:25:42,31/10/2016,No,BH2 2BB,\n",
    );
    let types: Vec<String> = inferred
        .spec
        .columns
        .iter()
        .map(|c| c.column_type.to_string())
        .collect();
    let wanted = [
        "text",
        "integer",
        "decimal(18,2)",
        "timestamp",
        "date",
        "boolean",
        "text",
        "text",
    ];
    assert_eq!(types, wanted, "{}", inferred.toml);
    assert_eq!(column(&inferred, "system_code").source, ["System Code"]);
    assert_eq!(column(&inferred, "paid").formats, ["%d/%m/%Y"]);
    assert!(
        inferred.toml.contains("empty throughout"),
        "{}",
        inferred.toml
    );
}

#[test]
fn american_dates_are_told_from_british_ones() {
    let inferred = of("d\n3/17/2017\n1/2/2017\n12/31/2017\n");
    assert_eq!(column(&inferred, "d").formats, ["%m/%d/%Y"]);
    let inferred = of("d\n17/3/2017\n1/2/2017\n31/12/2017\n");
    assert_eq!(column(&inferred, "d").formats, ["%d/%m/%Y"]);
}

#[test]
fn several_forms_of_dates_are_all_named() {
    let inferred = of("d\n17/03/2017\n2017-03-18\n19-Mar-17\n");
    assert_eq!(
        column(&inferred, "d").formats,
        ["%d/%m/%Y", "%Y-%m-%d", "%d-%b-%y"]
    );
}

#[test]
fn windows_1252_and_semicolons_are_noticed() {
    let inferred = of_bytes(b"name;n\nCaf\xe9;1\n");
    assert_eq!(inferred.spec.encoding, Encoding::Windows1252);
    assert_eq!(
        (inferred.spec.delimiter, inferred.spec.columns.len()),
        (b';', 2)
    );
}

#[test]
fn unnamed_and_repeated_headers_get_names() {
    let inferred = of("a,,a\n1,2,3\n");
    let names: Vec<&str> = inferred
        .spec
        .columns
        .iter()
        .map(|c| c.name.as_str())
        .collect();
    assert_eq!(names, ["a", "column_2", "a_2"]);
}

fn column<'a>(inferred: &'a Inferred, name: &str) -> &'a ColumnSpec {
    inferred
        .spec
        .columns
        .iter()
        .find(|c| c.name.as_str() == name)
        .unwrap()
}

fn of(text: &str) -> Inferred {
    of_bytes(text.as_bytes())
}

fn of_bytes(bytes: &[u8]) -> Inferred {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.csv");
    std::fs::write(&path, bytes).unwrap();
    infer(&path, &InferOptions::default()).unwrap()
}
