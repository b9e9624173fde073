//! What the default policies say, and what texts are policies.

use crate::{
    Action, Asker, DEFAULT_COUNCIL_POLICY, DEFAULT_DEPARTMENT_POLICY, Decision, Policies,
    PolicyError, Question, Subject,
};
use cedar_policy::{Entities, Schema};
use guildhall_model::{
    ColumnName, CouncilName, PeerId, Principal, ProductRef, Purpose, ReleaseClass,
};
use std::collections::BTreeSet;
use std::fmt::Write as _;

const CLASSES: [ReleaseClass; 4] = [
    ReleaseClass::Open,
    ReleaseClass::Restricted,
    ReleaseClass::Aggregate,
    ReleaseClass::Warranted,
];
const ACTIONS: [Action; 6] = [
    Action::SeeProduct,
    Action::ReadRows,
    Action::ReadCells,
    Action::JoinCells,
    Action::CheckProduct,
    Action::PrepareProduct,
];
/// Those that a department's policy is asked about.
const AT_NODES: &[Action] = &[Action::ReadRows, Action::ReadCells, Action::JoinCells];

#[test]
fn the_default_policies_decide_as_their_matrix_says() {
    let council = Policies::council(DEFAULT_COUNCIL_POLICY).unwrap();
    let department = Policies::department(DEFAULT_DEPARTMENT_POLICY).unwrap();
    let now = format!(
        "# The council's default policy\n{}\n# The department's default policy\n{}",
        matrix(&council, &ACTIONS, 4),
        matrix(&department, AT_NODES, 2),
    );
    let kept = include_str!("../vectors/matrix.txt");
    assert!(
        now == kept,
        "vectors/matrix.txt no longer holds; it would now be:\n{now}"
    );
}

#[test]
fn parts_of_cells_go_to_another_councils_clean_room_where_a_policy_says_so() {
    let theirs = Why {
        clean_room: "spiffe://southmoor/council/clean-room/main"
            .parse()
            .unwrap(),
        ..why("planning")
    };
    let ana = asker("northmoor/ana", &["analyst"]);
    let cells = subject(ReleaseClass::Aggregate);
    let default = Policies::council(DEFAULT_COUNCIL_POLICY).unwrap();
    assert!(ask(&default, &ana, Action::JoinCells, &cells, &why("planning")).permits());
    assert!(!ask(&default, &ana, Action::JoinCells, &cells, &theirs).permits());
    let shared = format!(
        "{DEFAULT_COUNCIL_POLICY} @id(\"shared\") permit (principal, action == Action::\"JoinCells\", resource) \
         when {{ context.recipient_council == \"southmoor\" }};"
    );
    let shared = Policies::council(&shared).unwrap();
    assert!(ask(&shared, &ana, Action::JoinCells, &cells, &theirs).permits());
    // What gives rows has no parts of cells, whatever a policy says.
    let open = subject(ReleaseClass::Open);
    assert!(!ask(&shared, &ana, Action::JoinCells, &open, &theirs).permits());
}

#[test]
fn statistics_are_prepared_by_nodes_of_the_council_and_by_nobody_else() {
    let default = Policies::council(DEFAULT_COUNCIL_POLICY).unwrap();
    let prepares = |who: &str, role: &str, class, purpose: &str| {
        let asker = Asker {
            purposes: purposes(&["prepare", "planning"]),
            ..asker(who, &[role])
        };
        let act = Action::PrepareProduct;
        ask(&default, &asker, act, &subject(class), &why(purpose)).permits()
    };
    assert!(prepares(
        "northmoor/n1",
        "node",
        ReleaseClass::Aggregate,
        "prepare"
    ));
    assert!(!prepares(
        "northmoor/n1",
        "analyst",
        ReleaseClass::Aggregate,
        "prepare"
    ));
    assert!(!prepares(
        "southmoor/n1",
        "node",
        ReleaseClass::Aggregate,
        "prepare"
    ));
    assert!(!prepares(
        "northmoor/n1",
        "node",
        ReleaseClass::Aggregate,
        "planning"
    ));
    for class in CLASSES
        .into_iter()
        .filter(|c| *c != ReleaseClass::Aggregate)
    {
        assert!(
            !prepares("northmoor/n1", "node", class, "prepare"),
            "{class:?}"
        );
    }
}

/// The first `askers` principals, every action and class, asked for a purpose held and offered, for one
/// that is not offered, and for one that is not held.
fn matrix(set: &Policies, actions: &[Action], askers: usize) -> String {
    let mut out = format!(
        "{:<34} {:<12} {:<11} {:<13} decision\n",
        "principal", "action", "class", "purpose"
    );
    let all = [
        asker("northmoor/ana", &["analyst"]),
        asker("southmoor/bo", &["southmoor/analyst"]),
        asker("northmoor/loader", &["service"]),
        asker("northmoor/nobody", &[]),
    ];
    for who in &all[..askers] {
        for action in actions {
            for class in CLASSES {
                for purpose in ["planning", "unoffered", "unheld", "product_check"] {
                    let said = ask(set, who, *action, &subject(class), &why(purpose));
                    let said = match said {
                        Decision::Permit { policies } => {
                            format!("permit  {}", policies.join(", "))
                        }
                        Decision::Forbid { policies } => {
                            format!("forbid  {}", policies.join(", "))
                        }
                    };
                    let roles: Vec<&str> = who.roles.iter().map(String::as_str).collect();
                    let who = format!("{} ({})", who.principal, roles.join(", "));
                    writeln!(
                        out,
                        "{who:<34} {:<12} {:<11} {purpose:<13} {said}",
                        action.as_str(),
                        class.as_str()
                    )
                    .unwrap();
                }
            }
        }
    }
    out
}

#[test]
fn what_is_sent_to_cedar_fits_the_schemas() {
    for (schema, text, actions) in [
        (
            include_str!("../policies/council.cedarschema"),
            Policies::council(DEFAULT_COUNCIL_POLICY).unwrap(),
            &ACTIONS[..],
        ),
        (
            include_str!("../policies/department.cedarschema"),
            Policies::department(DEFAULT_DEPARTMENT_POLICY).unwrap(),
            AT_NODES,
        ),
    ] {
        let (schema, _) = Schema::from_cedarschema_str(schema).unwrap();
        for action in actions {
            for template in [None, Some("sessions".parse().unwrap())] {
                let who = asker("northmoor/ana", &["analyst"]);
                let subject = Subject {
                    conforms_to: template,
                    ..subject(ReleaseClass::Open)
                };
                let why = why("planning");
                let question = why.question(&who, *action, &subject);
                Entities::from_entities(
                    question.entities(&text.types, text.side).unwrap(),
                    Some(&schema),
                )
                .unwrap();
                cedar_policy::Request::new(
                    question.principal_uid(&text.types),
                    question.action_uid(&text.types),
                    question.product_uid(&text.types),
                    question.context().unwrap(),
                    Some(&schema),
                )
                .unwrap();
            }
        }
    }
}

#[test]
fn a_misspelt_attribute_is_found_when_the_policy_is_read() {
    let text =
        r#"@id("a") permit (principal, action, resource) when { resource.klass == "open" };"#;
    assert!(matches!(
        Policies::council(text),
        Err(PolicyError::Invalid { .. })
    ));
}

#[test]
fn a_department_cannot_rely_on_roles_that_a_grant_does_not_carry() {
    let text = r#"@id("a") forbid (principal, action, resource) when { principal.roles.contains("supplier") };"#;
    assert!(Policies::council(text).is_ok());
    assert!(matches!(
        Policies::department(text),
        Err(PolicyError::Invalid { .. })
    ));
}

#[test]
fn a_policy_that_can_never_apply_is_refused() {
    let text = r#"@id("a") forbid (principal == Product::"x.y.z", action, resource);"#;
    assert!(matches!(
        Policies::council(text),
        Err(PolicyError::Invalid { .. })
    ));
}

#[test]
fn a_policy_needs_a_name_of_its_own() {
    let unnamed = "permit (principal, action, resource);";
    assert!(matches!(
        Policies::council(unnamed),
        Err(PolicyError::Unnamed { .. })
    ));
    let twice = r#"@id("a") permit (principal, action, resource);
        @id("a") forbid (principal, action, resource);"#;
    assert!(matches!(
        Policies::council(twice),
        Err(PolicyError::NamedTwice { .. })
    ));
}

#[test]
fn text_that_is_not_cedar_is_refused_with_cedars_words() {
    let error = Policies::council("allow all").unwrap_err();
    assert!(matches!(&error, PolicyError::Syntax { reason } if !reason.is_empty()));
}

#[test]
fn templates_are_refused() {
    let text = r#"@id("a") permit (principal == ?principal, action, resource);"#;
    assert!(matches!(
        Policies::council(text),
        Err(PolicyError::Template)
    ));
}

#[test]
fn an_empty_set_permits_nothing() {
    let set = Policies::council("").unwrap();
    let said = ask(
        &set,
        &asker("northmoor/ana", &["analyst"]),
        Action::SeeProduct,
        &subject(ReleaseClass::Open),
        &why("planning"),
    );
    assert_eq!(
        said,
        Decision::Forbid {
            policies: vec![Decision::NOTHING_PERMITS.to_owned()]
        }
    );
}

#[test]
fn a_policy_that_fails_forbids() {
    let text = r#"@id("all") permit (principal, action, resource);
        @id("overflows") forbid (principal, action, resource)
        when { 9223372036854775807 + 1 == 0 };"#;
    let set = Policies::council(text).unwrap();
    let said = ask(
        &set,
        &asker("northmoor/ana", &["analyst"]),
        Action::SeeProduct,
        &subject(ReleaseClass::Open),
        &why("planning"),
    );
    assert_eq!(
        said,
        Decision::Forbid {
            policies: vec![Decision::NOT_EVALUATED.to_owned()]
        }
    );
}

#[test]
fn a_policy_can_name_one_principal_and_one_product() {
    let text = r#"@id("register") permit (
        principal == Principal::"northmoor/ana",
        action == Action::"ReadRows",
        resource == Product::"northmoor.parking.sessions")
        when { context.columns.containsAll(["ward"]) && context.gateway like "*/gateway/*" };"#;
    let set = Policies::council(text).unwrap();
    let subject = subject(ReleaseClass::Restricted);
    let rows = |who: &str| {
        ask(
            &set,
            &asker(who, &[]),
            Action::ReadRows,
            &subject,
            &why("planning"),
        )
        .permits()
    };
    assert!(rows("northmoor/ana"));
    assert!(!rows("southmoor/ana"));
}

#[test]
#[ignore = "a measurement"]
fn what_a_decision_costs() {
    let set = Policies::council(DEFAULT_COUNCIL_POLICY).unwrap();
    let who = asker("northmoor/ana", &["analyst"]);
    let (subject, why) = (subject(ReleaseClass::Open), why("planning"));
    let start = std::time::Instant::now();
    for _ in 0..10_000 {
        assert!(ask(&set, &who, Action::ReadRows, &subject, &why).permits());
    }
    println!("{:?} a decision", start.elapsed() / 10_000);
}

fn ask(set: &Policies, asker: &Asker, action: Action, subject: &Subject, why: &Why) -> Decision {
    set.decide(&why.question(asker, action, subject))
}

struct Why {
    purpose: Purpose,
    columns: BTreeSet<ColumnName>,
    gateway: PeerId,
    clean_room: PeerId,
    council: CouncilName,
    linked: BTreeSet<ProductRef>,
}

impl Why {
    fn question<'a>(
        &'a self,
        asker: &'a Asker,
        action: Action,
        subject: &'a Subject,
    ) -> Question<'a> {
        let Self {
            purpose,
            columns,
            gateway,
            clean_room,
            council,
            linked,
        } = self;
        let recipient = match action {
            Action::JoinCells | Action::LinkUnits => clean_room,
            _ => gateway,
        };
        Question {
            asker,
            action,
            subject,
            purpose,
            columns,
            gateway,
            recipient,
            council,
            linked,
        }
    }
}

fn asker(name: &str, roles: &[&str]) -> Asker {
    let (council, name) = name.split_once('/').unwrap();
    Asker {
        principal: Principal {
            council: council.parse().unwrap(),
            name: name.parse().unwrap(),
        },
        roles: roles.iter().map(|r| (*r).to_owned()).collect(),
        purposes: purposes(&["planning", "unoffered", "product_check"]),
    }
}

fn subject(class: ReleaseClass) -> Subject {
    Subject {
        product: ProductRef {
            council: "northmoor".parse().unwrap(),
            department: "parking".parse().unwrap(),
            product: "sessions".parse().unwrap(),
        },
        class,
        purposes: purposes(&["planning", "unheld"]),
        conforms_to: None,
        dpia: None,
    }
}

fn why(purpose: &str) -> Why {
    Why {
        purpose: purpose.parse().unwrap(),
        columns: ["ward".parse().unwrap()].into(),
        gateway: "spiffe://northmoor/council/gateway/gw".parse().unwrap(),
        clean_room: "spiffe://northmoor/council/clean-room/main"
            .parse()
            .unwrap(),
        council: "northmoor".parse().unwrap(),
        linked: BTreeSet::new(),
    }
}

fn purposes(names: &[&str]) -> BTreeSet<Purpose> {
    names.iter().map(|p| p.parse().unwrap()).collect()
}

/// What decides whether rows may meet those of other products.
#[test]
fn rows_meet_where_a_policy_names_products_purpose_and_assessment() {
    let text = format!(
        r#"{DEFAULT_COUNCIL_POLICY}
        @id("meet")
        permit (principal, action == Action::"LinkUnits", resource)
        when {{
            resource has dpia && resource.dpia == "DPIA-1" && context.recipient_council == "northmoor" &&
            ["northmoor.housing.tenancies"].containsAll(context.linked)
        }};"#
    );
    let set = Policies::council(&text).unwrap();
    let who = asker("northmoor/ana", &["analyst"]);
    let assessed = |dpia: Option<&str>| Subject {
        dpia: dpia.map(str::to_owned),
        ..subject(ReleaseClass::Aggregate)
    };
    let with = |product: &str| Why {
        linked: [product.parse().unwrap()].into(),
        ..why("planning")
    };
    let may = |set: &Policies, subject: &Subject, why: &Why| {
        ask(set, &who, Action::LinkUnits, subject, why).permits()
    };
    let tenancies = with("northmoor.housing.tenancies");
    assert!(may(&set, &assessed(Some("DPIA-1")), &tenancies));
    assert!(!may(&set, &assessed(Some("DPIA-2")), &tenancies));
    assert!(!may(&set, &assessed(None), &tenancies));
    assert!(!may(
        &set,
        &assessed(Some("DPIA-1")),
        &with("northmoor.tax.accounts")
    ));
    let rows = Subject {
        class: ReleaseClass::Restricted,
        ..assessed(Some("DPIA-1"))
    };
    assert!(!may(&set, &rows, &tenancies));

    // No council permits it unasked; a department leaves it to its product and its council.
    let council = Policies::council(DEFAULT_COUNCIL_POLICY).unwrap();
    assert!(!may(&council, &assessed(Some("DPIA-1")), &tenancies));
    let department = Policies::department(DEFAULT_DEPARTMENT_POLICY).unwrap();
    assert!(may(&department, &assessed(Some("DPIA-1")), &tenancies));
    assert!(!may(&department, &assessed(None), &tenancies));
}
