//! Layers that link to files of lower ones, which may be broken by then.

use super::*;

/// `hard` and `again` are `etc/passwd` of the base.
fn link_to_base(layers: &Arc<Layers>) -> Result<(), Error> {
    let link = |path: &str, target: &str| PendingLink {
        path: path.into(),
        target: target.into(),
    };
    let unpacked = Unpacked {
        links: vec![link("hard", "etc/passwd"), link("again", "hard")],
        ..unpacked(&[])
    };
    let staged = layers.begin()?;
    staged.commit(&place("top", Some("base")), &unpacked)
}

fn found(layers: &Layers, name: &str) -> Vec<PathBuf> {
    let verified = layers.verify(&chain(name), &Stop::default()).unwrap();
    let deviations = verified.deviations.into_iter();
    deviations.map(|deviation| deviation.path).collect()
}

#[test]
fn what_a_link_leads_to_was_what_the_lower_layer_says() {
    for broken in ["toor", "", "much longer than it was"] {
        let root = TempDir::new().unwrap();
        let layers = with_base(&root);
        let tree = layers.trees(&[chain("base")]).unwrap().remove(0);
        fs::write(tree.join("etc/passwd"), broken).unwrap();
        link_to_base(&layers).unwrap();
        assert_eq!(found(&layers, "base"), [PathBuf::from("etc/passwd")]);
        let both = ["again", "hard"].map(PathBuf::from);
        assert_eq!(found(&layers, "top"), both);
        fs::write(tree.join("etc/passwd"), "root").unwrap();
        assert!(found(&layers, "base").is_empty() && found(&layers, "top").is_empty());
    }
}

#[test]
fn a_file_of_two_layers_takes_its_place_once() {
    let root = TempDir::new().unwrap();
    let layers = with_base(&root);
    link_to_base(&layers).unwrap();
    let du = std::process::Command::new("du")
        .args(["--block-size=1", "--summarize"])
        .args(["base", "top"].map(|name| root.path().join(chain(name).0.hex())))
        .output()
        .unwrap();
    let text = String::from_utf8(du.stdout).unwrap();
    let sizes = text.lines().map(|line| line.split('\t').next().unwrap());
    let sum: u64 = sizes.map(|size| size.parse::<u64>().unwrap()).sum();
    assert_eq!(layers.usage().bytes, sum);
}

#[test]
fn a_lower_layer_that_does_not_know_its_files_is_brought_anew() {
    let root = TempDir::new().unwrap();
    let layers = with_base(&root);
    let inventory = root.path().join(chain("base").0.hex()).join("inventory");
    fs::write(inventory, "").unwrap();
    let refused = link_to_base(&layers).unwrap_err();
    assert!(matches!(refused, Error::Inventory { .. }), "{refused}");
    let again = Arc::new(Layers::open(root.path(), "boot").unwrap());
    for layers in [layers, again] {
        assert!(layers.get(&chain("base")).is_some());
        assert!(!layers.is_there(&chain("base")), "also after a restart");
        add_base(&layers);
        assert!(layers.is_there(&chain("base")));
        layers.distrust(&chain("base"));
    }
}

/// A sync that is under way meanwhile writes the same record.
#[test]
fn a_broken_layer_that_becomes_durable_is_still_broken() {
    let root = TempDir::new().unwrap();
    let layers = with_base(&root);
    layers.distrust(&chain("base"));
    layers.make_durable().unwrap();
    let next = Layers::open(root.path(), "next").unwrap();
    let record = next.get(&chain("base")).unwrap();
    assert!(record.durable && record.distrusted);
}
