//! What the recipes in `docs/recipes/` give people to copy fits the program: files are whole, keys and variables exist, exit codes
//! mean what the unit takes them for. What runs real servers is in `end_to_end/recipes.rs`.

#![allow(clippy::expect_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use messenger_bridge::app::exit::Exit;
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_messenger-bridge");

fn recipes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/recipes")
}

fn text(name: &str) -> String {
    fs::read_to_string(recipes().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The documents of a YAML file.
fn yaml(name: &str) -> Vec<Value> {
    let documents = text(name);
    let read = |document: &str| {
        serde_saphyr::from_str::<Value>(document).unwrap_or_else(|error| panic!("{name} is no YAML: {error}"))
    };
    documents.split("\n---\n").map(read).collect()
}

/// The program takes a configuration, with these variables: `generate-registration` reads all of it.
fn accepts(config: &str, variables: &[(String, String)]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("config.yaml"), config).expect("write the config");
    let mut command = Command::new(PROGRAM);
    command.arg("generate-registration").current_dir(folder.path()).stdin(Stdio::null());
    command.envs(variables.iter().cloned()).output().expect("start the program")
}

fn assert_accepted(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_unit_starts_again_what_another_try_can_mend_and_nothing_else() {
    let unit = text("messenger-bridge.service");
    let line = unit.lines().find_map(|line| line.strip_prefix("RestartPreventExitStatus=")).expect("the codes");
    let named: Vec<u8> = line.split(' ').map(|code| code.parse().expect("a number")).collect();
    let meant: Vec<u8> = Exit::ALL.into_iter().filter(|exit| exit.needs_a_hand()).map(Exit::code).collect();
    assert_eq!(named, meant);
}

#[test]
fn systemd_takes_the_unit_and_finds_it_hardened() {
    if Command::new("systemd-analyze").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("systemd-analyze is not here: the unit is not looked at");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let unit = folder.path().join("messenger-bridge.service");
    let here = text("messenger-bridge.service").replace("/usr/local/bin/messenger-bridge", PROGRAM);
    fs::write(&unit, here).expect("write the unit");
    for arguments in [&["verify"][..], &["security", "--offline=true", "--threshold=20", "--no-pager"]] {
        let looked = Command::new("systemd-analyze").args(arguments).arg(&unit).output().expect("systemd-analyze");
        let said = format!("{}{}", String::from_utf8_lossy(&looked.stdout), String::from_utf8_lossy(&looked.stderr));
        assert!(looked.status.success(), "{said}");
        assert!(!String::from_utf8_lossy(&looked.stderr).contains("messenger-bridge.service:"), "{said}");
    }
}

#[test]
fn every_service_of_the_compose_file_has_a_health_check_and_all_its_files() {
    let compose = yaml("compose/compose.yaml").remove(0);
    let services = compose["services"].as_object().expect("services");
    let volumes = compose["volumes"].as_object().expect("volumes");
    assert_eq!(services.keys().collect::<Vec<_>>(), ["bridge", "caddy", "prosody", "synapse"]);
    let dockerfile = fs::read_to_string(recipes().join("../../Dockerfile")).expect("the Dockerfile");
    let script = text("compose/make-secrets");
    for (name, service) in services {
        let known =
            ["image", "restart", "environment", "volumes", "healthcheck", "ports", "stop_grace_period", "depends_on"];
        let hardening = ["read_only", "tmpfs", "cap_drop", "security_opt"];
        for key in service.as_object().expect("a service").keys() {
            assert!(known.contains(&key.as_str()) || hardening.contains(&key.as_str()), "{name}: {key}");
        }
        assert_eq!(service["restart"], "unless-stopped", "{name}");
        let checked = service["healthcheck"]["test"].as_array().is_some_and(|test| test.len() > 1);
        assert!(checked || name == "bridge" && dockerfile.contains("\nHEALTHCHECK "), "{name} has no health check");
        let image = service["image"].as_str().expect("an image");
        assert!(image.contains(':') || image == "messenger-bridge", "{name}: {image} has no version");
        for (other, how) in service["depends_on"].as_object().into_iter().flatten() {
            assert!(services.contains_key(other) && how["condition"] == "service_healthy", "{name}: {other}");
        }
        for volume in service["volumes"].as_array().expect("volumes") {
            let source = volume.as_str().and_then(|volume| volume.split(':').next()).expect("a source");
            match source.strip_prefix("./") {
                Some(file) => assert!(
                    recipes().join("compose").join(file).exists() || script.contains(&format!("mkdir -p {file}")),
                    "{name}: {source} is nowhere"
                ),
                None => assert!(volumes.contains_key(source), "{name}: {source}"),
            }
        }
    }
    // The bridge ends in order within 10 s; Docker must not kill it before.
    assert_eq!(services["bridge"]["stop_grace_period"], "15s");
    let config: Value = serde_saphyr::from_str(&text("compose/bridge/config.yaml")).expect("YAML");
    let homeserver: Value = serde_saphyr::from_str(&text("compose/synapse/homeserver.yaml")).expect("YAML");
    assert_eq!(config["homeserver"]["domain"], homeserver["server_name"]);
    assert_eq!(config["homeserver"]["address"], format!("http://synapse:{}", homeserver["listeners"][0]["port"]));
    assert!(text("compose/Caddyfile").contains("reverse_proxy bridge:29340"));
}

#[test]
fn the_deployment_has_one_process_its_probes_and_variables_that_exist() {
    let documents = yaml("kubernetes.yaml");
    let of = |kind: &str| documents.iter().find(|document| document["kind"] == kind).expect("a document");
    let deployment = of("Deployment");
    assert_eq!(
        (&deployment["spec"]["replicas"], &deployment["spec"]["strategy"]["type"]),
        (&1.into(), &"Recreate".into())
    );
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/_matrix/mau/live");
    assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/_matrix/mau/ready");
    assert!(pod["terminationGracePeriodSeconds"].as_u64().is_some_and(|seconds| seconds > 10));
    let volumes = pod["volumes"].as_array().expect("volumes");
    for mount in container["volumeMounts"].as_array().expect("mounts") {
        assert!(volumes.iter().any(|volume| volume["name"] == mount["name"]), "{mount}");
    }
    assert_eq!(volumes[0]["persistentVolumeClaim"]["claimName"], of("PersistentVolumeClaim")["metadata"]["name"]);

    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("client_secret");
    fs::write(&secret, "a secret").expect("write the secret");
    let mut variables = Vec::new();
    for variable in container["env"].as_array().expect("variables") {
        let name = variable["name"].as_str().expect("a name");
        // Where files are is another matter here.
        if name.starts_with("MESSENGER_BRIDGE__") {
            assert!(name.ends_with("_FILE"), "{name}: secrets come as files");
            variables.push((name.to_owned(), secret.display().to_string()));
        }
    }
    assert_eq!(variables.len(), 1);
    let config = of("ConfigMap")["data"]["config.yaml"].as_str().expect("the config");
    assert_accepted(&accepts(config, &variables));
    let read: Value = serde_saphyr::from_str(config).expect("YAML");
    let port = of("Service")["spec"]["ports"][0]["port"].clone();
    assert_eq!(read["appservice"]["address"], format!("http://messenger-bridge:{port}"));
    assert_eq!(read["appservice"]["listen"], format!("0.0.0.0:{port}"));
    // A variable that does not exist is told, or this test could not fail.
    let mistyped =
        accepts(config, &[("MESSENGER_BRIDGE__NETWORKS__MESSENGER__OAUTH__SECRET_FILE".to_owned(), String::new())]);
    assert_eq!(mistyped.status.code(), Some(i32::from(Exit::ConfigInvalid.code())));
}
