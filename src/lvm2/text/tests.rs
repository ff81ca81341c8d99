use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn problem(text: &str) -> (usize, usize, String) {
    let error = parse(text).expect_err("not in the grammar");
    (error.line, error.column, error.problem)
}

#[test]
fn all_kinds_of_entries_are_read() {
    let text = "a{b=[1,-2,\"x\\\"\\\\\\n\",] # rest\n c='d\"\\' }e = 1.5e3 f = 010 # end";
    let expected = vec![
        Node::section(
            "a",
            vec![
                Node::value("b", Value::List(vec![Value::Int(1), Value::Int(-2), Value::text("x\"\\\\n")])),
                Node::Comment(" rest".to_owned()),
                Node::value("c", Value::text("d\"\\")),
            ],
        ),
        Node::value("e", Value::Float("1.5e3".to_owned())),
        Node::value("f", Value::Int(8)),
        Node::Comment(" end".to_owned()),
    ];
    assert_eq!(parse(text).unwrap(), expected);
}

#[test]
fn errors_say_where() {
    assert_eq!(problem("a {\n b = }"), (2, 6, "expected a value, found '}'".to_owned()));
    assert_eq!(problem("a {\n"), (2, 1, "expected a name, found the end of the text".to_owned()));
    assert_eq!(problem("}"), (1, 1, "expected a name, found '}'".to_owned()));
    assert_eq!(problem("a = \"x\ny"), (1, 5, "this string has no end".to_owned()));
    assert_eq!(problem("a = 'x"), (1, 5, "this string has no end".to_owned()));
    assert_eq!(problem("a \"x\""), (1, 3, "expected `{` or `=`, found the string \"x\"".to_owned()));
    assert_eq!(problem("a = [1 2]"), (1, 8, "expected `,` or `]`, found \"2\"".to_owned()));
    assert_eq!(problem("a = 99999999999999999999").1, 5);
    assert_eq!(problem("a = word").1, 5);
    assert_eq!(problem("a = 08").1, 5);
    assert_eq!(problem("a = 1\0").1, 6);
}

#[test]
fn nesting_is_bounded() {
    assert!(parse(&"a{".repeat(100_000)).is_err());
    assert!(parse(&format!("a={}", "[".repeat(100_000))).is_err());
    assert!(parse(&format!("{}{}", "a{".repeat(20), "}".repeat(20))).is_ok());
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Value::Int),
        "-?[0-9]{1,5}\\.[0-9]{1,5}(e-?[0-9]{1,2})?".prop_map(Value::Float),
        any::<String>().prop_map(Value::Str),
        "[\"'\\\\a#\n]{0,8}".prop_map(Value::Str),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| vec(inner, 0..4).prop_map(Value::List))
}

fn nodes() -> impl Strategy<Value = Vec<Node>> {
    let name = "[a-zA-Z0-9_.+/-]{1,12}";
    let leaf = prop_oneof![
        (name, value()).prop_map(|(name, value)| Node::Value { name, value }),
        ("(stripes|raids|mirrors|type|status|device)", value())
            .prop_map(|(name, value)| Node::Value { name, value }),
        "[^\n]{0,20}".prop_map(Node::Comment),
    ];
    let node = leaf.prop_recursive(4, 40, 6, move |inner| {
        (name, vec(inner, 0..6)).prop_map(|(name, nodes)| Node::Section { name, nodes })
    });
    vec(node, 0..6)
}

proptest! {
    #[test]
    fn what_is_printed_reads_back(nodes in nodes()) {
        let text = print(&nodes);
        prop_assert_eq!(parse(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?, nodes);
    }

    #[test]
    fn garbage_never_panics(text in "[a-c0-9={}\\[\\],\"'#\\\\ \n\u{e9}\u{0}.+-]{0,60}") {
        if let Ok(nodes) = parse(&text) {
            prop_assert_eq!(parse(&print(&nodes)).expect("was printed"), nodes);
        }
    }

    #[test]
    fn any_text_never_panics(text in any::<String>()) {
        drop(parse(&text));
    }
}
