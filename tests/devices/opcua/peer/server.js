// An OPC UA server (node-opcua) for the tests beside it. Its settings come as one
// JSON object in argv[2], commands as JSON lines on stdin, answers as JSON lines on
// stdout. Counters count up by one each tick, so that who listens can prove that
// nothing is missing and nothing came twice.
"use strict";
const fs = require("fs");
const path = require("path");
const readline = require("readline");
const ua = require("node-opcua");
const { ensureDatatypeExtracted } = require("node-opcua-address-space");

const settings = Object.assign(
  { port: 4840, pki: "pki", counters: 10, tick: 100, order: "ab", history: false, limits: {}, tree: 0, nonsecure: true },
  JSON.parse(process.argv[2] || "{}"),
);
const say = (o) => process.stdout.write(JSON.stringify(o) + "\n");

async function types(addressSpace, ns) {
  const folder = ns.addFolder(addressSpace.rootFolder.objects, { browseName: "Types", nodeId: "s=Types" });
  const variable = (name, dataType, value, more) =>
    ns.addVariable(Object.assign({ componentOf: folder, browseName: name, nodeId: "s=" + name, dataType, value, minimumSamplingInterval: 10 }, more));
  const scalar = (dataType, value) => ({ dataType, arrayType: ua.VariantArrayType.Scalar, value });
  const D = ua.DataType;
  for (const [name, type, value] of [
    ["Boolean", D.Boolean, true], ["SByte", D.SByte, -8], ["Byte", D.Byte, 8], ["Int16", D.Int16, -16], ["UInt16", D.UInt16, 16],
    ["Int32", D.Int32, -32], ["UInt32", D.UInt32, 32], ["Float", D.Float, 1.5], ["Double", D.Double, 2.5], ["String", D.String, "text"],
    ["Int64", D.Int64, ua.coerceInt64(-64)], ["UInt64", D.UInt64, ua.coerceUInt64(64)],
    ["DateTime", D.DateTime, new Date("2026-01-02T03:04:05.678Z")], ["ByteString", D.ByteString, Buffer.from([1, 2, 3])],
  ]) variable(name, D[type], scalar(type, value));
  variable("Array", "Int32", { dataType: D.Int32, arrayType: ua.VariantArrayType.Array, value: new Int32Array([1, 2, 3]) }, { valueRank: 1, arrayDimensions: [0] });
  variable("Matrix", "Double", { dataType: D.Double, arrayType: ua.VariantArrayType.Matrix, dimensions: [2, 3], value: new Float64Array([1, 2, 3, 4, 5, 6]) }, { valueRank: 2, arrayDimensions: [2, 3] });
  variable("ReadOnly", "Int32", scalar(D.Int32, 1), { accessLevel: "CurrentRead", userAccessLevel: "CurrentRead" });
  ns.addAnalogDataItem({
    componentOf: folder, browseName: "Analog", nodeId: "s=Analog", dataType: "Double", value: scalar(D.Double, 20),
    engineeringUnitsRange: { low: 0, high: 100 }, instrumentRange: { low: -10, high: 200 }, engineeringUnits: ua.standardUnits.degree_celsius,
  });
  const mode = ns.addEnumerationType({ browseName: "Mode", enumeration: [{ displayName: "Off", value: 0 }, { displayName: "Auto", value: 5 }, { displayName: "Manual", value: 7 }] });
  variable("Mode", mode, { dataType: D.Int32, value: 5 });
  const point = ns.createDataType({
    browseName: "Point", isAbstract: false, subtypeOf: "Structure",
    partialDefinition: [
      { name: "x", dataType: D.Double, valueRank: -1, description: "" }, { name: "label", dataType: D.String, valueRank: -1, description: "" },
      { name: "mode", dataType: mode.nodeId, valueRank: -1, description: "" }, { name: "history", dataType: D.Int16, valueRank: 1, description: "" },
    ],
  });
  const line = ns.createDataType({
    browseName: "Line", isAbstract: false, subtypeOf: "Structure",
    partialDefinition: [{ name: "from", dataType: point.nodeId, valueRank: -1, description: "" }, { name: "to", dataType: point.nodeId, valueRank: -1, description: "" }],
  });
  addressSpace.$$extraDataTypeManager = undefined; // made when there were no types of ours
  await ensureDatatypeExtracted(addressSpace);
  const value = addressSpace.constructExtensionObject(point, { x: 1.25, label: "here", mode: 7, history: [3, 2, 1] });
  variable("Point", point, { dataType: D.ExtensionObject, value });
  variable("Line", line, { dataType: D.ExtensionObject, value: addressSpace.constructExtensionObject(line, { from: value, to: value }) });
  const add = ns.addMethod(folder, {
    browseName: "Add", nodeId: "s=Add",
    inputArguments: [{ name: "a", dataType: D.Double, description: { text: "" } }, { name: "b", dataType: D.Int16, description: { text: "" } }],
    outputArguments: [{ name: "sum", dataType: D.Double, description: { text: "" } }],
  });
  add.bindMethod((input, context, callback) =>
    callback(null, { statusCode: ua.StatusCodes.Good, outputArguments: [scalar(D.Double, input[0].value + input[1].value)] }));
}

async function main() {
  fs.mkdirSync(settings.pki, { recursive: true });
  const certificates = (name) => new ua.OPCUACertificateManager({ rootFolder: path.join(settings.pki, name), automaticallyAcceptUnknownCertificate: true });
  const serverCertificateManager = certificates("server"), userCertificateManager = certificates("users");
  await serverCertificateManager.initialize();
  await userCertificateManager.initialize();
  const server = new ua.OPCUAServer({
    port: settings.port, hostname: "127.0.0.1", alternateHostname: ["127.0.0.1"], resourcePath: "/test",
    host: "127.0.0.1",
    serverCertificateManager, userCertificateManager,
    allowAnonymous: true, disableDiscovery: true,
    userManager: { isValidUser: (user, password) => user === "operator" && password === "secret" },
    serverCapabilities: { operationLimits: settings.limits, maxSessions: 20 },
    securityPolicies: [ua.SecurityPolicy.Basic256Sha256, ua.SecurityPolicy.Aes128_Sha256_RsaOaep, ua.SecurityPolicy.Aes256_Sha256_RsaPss]
      .concat(settings.nonsecure ? [ua.SecurityPolicy.None] : []),
    securityModes: [ua.MessageSecurityMode.Sign, ua.MessageSecurityMode.SignAndEncrypt].concat(settings.nonsecure ? [ua.MessageSecurityMode.None] : []),
  });
  await server.initialize();
  const { addressSpace } = server.engine;
  const named = {};
  for (const letter of settings.order) named[letter] = addressSpace.registerNamespace("urn:skerry:test:" + letter);
  const ns = named.a;
  const folder = ns.addFolder(addressSpace.rootFolder.objects, { browseName: "Counters", nodeId: "s=Counters" });
  const counters = [];
  for (let i = 0; i < settings.counters; i++) {
    const counter = ns.addVariable({
      componentOf: folder, browseName: "Counter" + i, nodeId: "s=Counter" + i, dataType: "UInt32",
      value: { dataType: ua.DataType.UInt32, value: settings.start || 0 }, minimumSamplingInterval: 0,
    });
    if (settings.history) addressSpace.installHistoricalDataNode(counter, { maxOnlineValues: 100000 });
    counters.push(counter);
  }
  named.b?.addVariable({ organizedBy: addressSpace.rootFolder.objects, browseName: "Decoy", nodeId: "s=Counter0", dataType: "UInt32", value: { dataType: ua.DataType.UInt32, value: 4711 } });
  await types(addressSpace, ns);
  for (let i = 0, unit; i < settings.tree; i++) {
    if (i % 100 === 0) unit = ns.addObject({ organizedBy: addressSpace.rootFolder.objects, browseName: "Unit" + i / 100, nodeId: "s=Unit" + i / 100 });
    ns.addVariable({ componentOf: unit, browseName: "Tag" + i, nodeId: "s=Tag" + i, dataType: "Double", value: { dataType: ua.DataType.Double, value: i } });
  }
  if (settings.motors) {
    const type = ns.addObjectType({ browseName: "MotorType" });
    const speed = ns.addAnalogDataItem({
      componentOf: type, browseName: "Speed", dataType: "Double", value: { dataType: ua.DataType.Double, value: 0 }, modellingRule: "Mandatory",
      engineeringUnitsRange: { low: 0, high: 3000 }, engineeringUnits: ua.makeEUInformation("RPM", "rpm", "revolutions per minute"), description: "of the shaft",
    });
    const drive = ns.addObject({ componentOf: type, browseName: "Drive", modellingRule: "Mandatory" });
    ns.addVariable({ componentOf: drive, browseName: "Fault", dataType: "Boolean", modellingRule: "Mandatory", accessLevel: "CurrentRead", userAccessLevel: "CurrentRead", value: { dataType: ua.DataType.Boolean, value: false } });
    const start = ns.addMethod(type, { browseName: "Start", modellingRule: "Mandatory", inputArguments: [{ name: "ramp", dataType: ua.DataType.Double, description: { text: "in s" } }], outputArguments: [] });
    const hall = ns.addFolder(addressSpace.rootFolder.objects, { browseName: "Hall 1" });
    for (let i = 1; i <= settings.motors; i++) {
      const motor = type.instantiate({ browseName: "Motor " + i, organizedBy: hall, nodeId: "s=Motor" + i });
      motor.start.bindMethod((input, context, callback) => callback(null, { statusCode: ua.StatusCodes.Good }));
    }
    void speed, void start;
  }
  let count = settings.start || 0, running = true, first = 0, last = 0;
  setInterval(() => {
    if (!running) return;
    count++;
    last = Date.now();
    first = first || last;
    const at = new Date(last);
    for (const c of counters) c.setValueFromSource({ dataType: ua.DataType.UInt32, value: count }, ua.StatusCodes.Good, at);
  }, settings.tick);
  const sessions = () => server.engine._sessions ? Object.keys(server.engine._sessions).length : 0;
  await server.start();
  readline.createInterface({ input: process.stdin }).on("line", async (line) => {
    const command = JSON.parse(line);
    if (command.do === "stop") running = false;
    if (command.do === "start") running = true;
    if (command.do === "set") addressSpace.findNode(command.node).setValueFromSource({ dataType: ua.DataType[command.type], value: command.value });
    say({ count, first, last, sessions: sessions(), ns: ns.index });
  }).on("close", () => process.exit(0)); // the test has gone
  say({ listening: server.getEndpointUrl() });
}
main().catch((e) => { say({ error: String(e && e.stack || e) }); process.exit(1); });
