//! Names that columns of identifiers have.

use guildhall_model::ReleaseClass;

/// Names of columns that are about a person, whatever the product.
const PERSONAL: [&str; 15] = [
    "nhs",
    "nino",
    "email",
    "phone",
    "mobile",
    "vrm",
    "passport",
    "dob",
    "birth",
    "surname",
    "forename",
    "firstname",
    "lastname",
    "fullname",
    "iban",
];
/// Names of columns that single out a household, a thing or a case.
const IDENTIFYING: [&str; 10] = [
    "id",
    "uprn",
    "uuid",
    "postcode",
    "address",
    "account",
    "reference",
    "ref",
    "serial",
    "plate",
];

/// Whether a column's name is that of an identifier: one of its words, or all of it.
pub(super) fn is_identifier(name: &str, class: ReleaseClass) -> bool {
    let name = name.to_ascii_lowercase();
    let is = |list: &[&str]| name.split('_').any(|word| list.contains(&word));
    let joined = name.replace('_', "");
    let personal = is(&PERSONAL) || PERSONAL.contains(&joined.as_str());
    personal || class != ReleaseClass::Open && is(&IDENTIFYING)
}
