//! The process: command line, environment, user, capabilities, limits.

use super::*;

#[test]
fn the_command_line_follows_the_rules_of_entrypoint_and_cmd() {
    // entrypoint, cmd, command, args → what is executed
    for (entrypoint, cmd, command, args, want) in [
        ("e", "c", "", "", "e c"),
        ("e", "c", "", "a", "e a"),
        ("e", "c", "x", "", "x"),
        ("e", "c", "x", "a b", "x a b"),
        ("", "c d", "", "", "c d"),
        ("", "", "", "a", "a"),
    ] {
        let mut asked = asked();
        asked.image.entrypoint = words(entrypoint);
        asked.image.cmd = words(cmd);
        asked.config.command = words(command);
        asked.config.args = words(args);
        let got = asked.process().args().clone().unwrap();
        assert_eq!(got, words(want), "{entrypoint}|{cmd}|{command}|{args}");
    }
    let mut nothing = asked();
    nothing.image.cmd.clear();
    assert_eq!(nothing.build().unwrap_err().kind(), Kind::InvalidArgument);
}

#[test]
fn the_later_variable_wins() {
    let mut asked = asked();
    asked.image.env = words("A=image B=image HOSTNAME=image broken");
    asked.config.envs = vec![("B".into(), "config=1".into())];
    let env = |asked: &Asked| asked.process().env().clone().unwrap();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let want = [path, "A=image", "B=config=1", "HOSTNAME=web-0"];
    assert_eq!(env(&asked), want);
    asked.image.env = words("PATH=/opt");
    asked.config.tty = true;
    let with_terminal = env(&asked);
    assert_eq!(with_terminal[..2], ["PATH=/opt", "TERM=xterm"]);
    asked.config.envs = vec![("A=".into(), String::new())];
    assert!(asked.build().is_err(), "a name with = was taken");
}

#[test]
fn the_working_directory_is_absolute() {
    for (image, config, want) in [
        ("", "", "/"),
        ("/srv", "", "/srv"),
        ("srv", "", "/srv"),
        ("/srv", "/tmp", "/tmp"),
    ] {
        let mut asked = asked();
        asked.image.working_dir = image.into();
        asked.config.working_dir = config.into();
        assert_eq!(asked.process().cwd(), Path::new(want));
    }
}

#[test]
fn users_are_numbers_where_known_and_looked_up_where_not() {
    use UserSpec::{Image, Name, Uid};
    let name = |text: &str| Name(text.into());
    // image's user, wanted, group → uid, gid, to look up under Merge, under Strict
    let cases = [
        ("", Image, None, 0, 0, "0", Some("0")),
        ("1002", Image, None, 1002, 0, "1002", Some("1002")),
        ("1003:1004", Image, None, 1003, 1004, "1003:1004", None),
        ("www", Image, None, 0, 0, "www", Some("www")),
        (
            "www:1004",
            Image,
            None,
            0,
            1004,
            "www:1004",
            Some("www:1004"),
        ),
        ("7:adm", Image, None, 7, 0, "7:adm", Some("7:adm")),
        ("www", Uid(5), None, 5, 0, "5", Some("5")),
        ("www", Uid(5), Some(6), 5, 6, "5:6", None),
        ("9", name("db"), None, 0, 0, "db", Some("db")),
        ("9", name("db"), Some(6), 0, 6, "db:6", Some("db:6")),
        ("", name("12"), Some(6), 12, 6, "12:6", None),
    ];
    for (image, user, group, uid, gid, merge, strict) in cases {
        let mut asked = asked();
        asked.image.user = image.into();
        asked.config.security.user = user.clone();
        asked.config.security.run_as_group = group;
        let got = asked.process().user().clone();
        assert_eq!((got.uid(), got.gid()), (uid, gid), "{image} {user:?}");
        assert_eq!(got.username().as_deref(), Some(merge));
        asked.config.security.groups_policy = GroupsPolicy::Strict;
        let got = asked.process().user().clone();
        assert_eq!(got.username().as_deref(), strict, "{image} {user:?} strict");
    }
}

#[test]
fn ids_that_cannot_be_are_refused() {
    let change: [fn(&mut Asked); 8] = [
        |a| a.config.security.run_as_group = Some(5),
        |a| a.config.security.user = UserSpec::Uid(-1),
        |a| a.config.security.user = UserSpec::Uid(4_294_967_295),
        |a| a.config.security.user = UserSpec::Uid(4_294_967_296),
        |a| a.image.user = "4294967296".into(),
        |a| a.image.user = "0:99999999999".into(),
        |a| a.config.security.user = UserSpec::Name(String::new()),
        |a| a.config.security.supplemental_groups = vec![1, -4],
    ];
    for (number, change) in change.into_iter().enumerate() {
        let mut asked = asked();
        change(&mut asked);
        let error = asked
            .build()
            .expect_err(&format!("case {number} was taken"));
        assert_eq!(error.kind(), Kind::InvalidArgument);
    }
}

#[test]
fn groups_and_their_policy_are_told() {
    let mut asked = asked();
    asked.config.security.supplemental_groups = vec![60000, 0];
    asked.config.security.groups_policy = GroupsPolicy::Strict;
    let spec = asked.spec();
    let user = spec.process().as_ref().unwrap().user();
    assert_eq!(user.additional_gids().as_deref(), Some(&[60000, 0][..]));
    let policy = &spec.annotations().as_ref().unwrap()[GROUPS_POLICY];
    assert_eq!(policy, "Strict");
}

#[test]
fn capabilities_are_added_and_dropped_within_the_bounds() {
    use Capability::{Chown, NetAdmin, NetRaw, SysAdmin, SysResource};
    // add, drop → has, has not, how many
    for (add, drop, has, lacks, count) in [
        ("", "", Some(Chown), Some(NetAdmin), 14),
        ("NET_ADMIN", "", Some(NetAdmin), Some(SysAdmin), 15),
        ("cap_net_admin", "NET_RAW", Some(NetAdmin), Some(NetRaw), 14),
        ("ALL", "", Some(SysAdmin), Some(SysResource), 40),
        ("ALL", "SYS_ADMIN", Some(NetAdmin), Some(SysAdmin), 39),
        ("", "ALL", None, Some(Chown), 0),
        ("CHOWN", "ALL", Some(Chown), Some(NetRaw), 1),
        ("SYS_RESOURCE", "", Some(Chown), Some(SysResource), 14),
    ] {
        let mut asked = asked();
        asked.config.security.capabilities.add = words(add);
        asked.config.security.capabilities.drop = words(drop);
        let sets = asked.process().capabilities().clone().unwrap();
        let bounding = sets.bounding().clone().unwrap();
        assert_eq!(bounding.len(), count, "+{add} -{drop}");
        assert!(
            has.is_none_or(|has| bounding.contains(&has)),
            "+{add} -{drop}"
        );
        assert!(
            lacks.is_none_or(|lacks| !bounding.contains(&lacks)),
            "+{add} -{drop}"
        );
        assert_eq!(sets.effective(), sets.bounding());
        assert_eq!(sets.permitted(), sets.bounding());
        assert_eq!(sets.inheritable().as_ref().unwrap().len(), 0);
        assert_eq!(sets.ambient().as_ref().unwrap().len(), 0);
    }
}

#[test]
fn ambient_capabilities_are_in_all_five_sets() {
    let mut asked = asked();
    asked.config.security.capabilities.drop = words("ALL");
    asked.config.security.capabilities.add_ambient = words("NET_BIND_SERVICE");
    let sets = asked.process().capabilities().clone().unwrap();
    let want = Some([Capability::NetBindService].into_iter().collect());
    assert_eq!(sets.ambient(), &want);
    assert_eq!(sets.inheritable(), &want);
    assert_eq!(sets.bounding(), &want);
}

#[test]
fn open_files_are_limited_within_the_nodes_own_limit() {
    let limit = |asked: &Asked| {
        let limits = asked.process().rlimits().clone().unwrap();
        assert_eq!(limits.len(), 1);
        (limits[0].soft(), limits[0].hard())
    };
    let mut asked = asked();
    assert_eq!(limit(&asked), (1024, 20_000));
    asked.host.max_open_files = 1 << 30;
    assert_eq!(limit(&asked), (1024, 524_288));
    asked.host.max_open_files = 100;
    assert_eq!(limit(&asked), (100, 100));
}
