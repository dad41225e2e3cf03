"use strict";

// The key lives in this variable alone: it is gone with the page.
let key = "";

const METHODS = ["get", "post", "put", "patch", "delete"];

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function authorized(headers = {}) {
  return key ? { ...headers, Authorization: `Bearer ${key}` } : headers;
}

async function begin() {
  const door = document.getElementById("door");
  const answer = await fetch("/openapi.json", { headers: authorized() });
  door.hidden = answer.ok;
  if (!answer.ok) {
    document.getElementById("refused").textContent = key ? `Refused: ${answer.status}` : "";
    return;
  }
  show(await answer.json());
}

function show(api) {
  document.getElementById("about").textContent = `${api.info.description} Version ${api.info.version}.`;
  const groups = new Map();
  for (const [path, operations] of Object.entries(api.paths)) {
    for (const method of METHODS.filter((each) => each in operations)) {
      const operation = operations[method];
      const tag = (operation.tags || ["other"])[0];
      groups.set(tag, [...(groups.get(tag) || []), shown(api, path, method, operation)]);
    }
  }
  const main = document.getElementById("operations");
  main.replaceChildren(...[...groups].flatMap(([tag, all]) => [make("h2", { textContent: tag }), ...all]));
}

function shown(api, path, method, operation) {
  const form = make("form");
  const inputs = (operation.parameters || []).map((each) => parameterInput(form, each));
  const fields = make("div");
  const body = bodyInput(form, fields, api, operation);
  const result = make("div", { className: "result" });
  form.append(make("button", { textContent: "Send" }));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(path, method, inputs, body, result);
  });
  const title = make("summary", {}, make("b", { textContent: method.toUpperCase() }),
    make("code", { textContent: path }), operation.summary || "");
  const description = make("p", { textContent: operation.description || "" });
  return make("details", { id: `${method} ${path}` }, title, description, form, result, fields,
    answersTable(operation));
}

function parameterInput(form, parameter) {
  const input = make("input", { name: parameter.name, required: Boolean(parameter.required) });
  form.append(make("label", {}, `${parameter.name} (${parameter.in})`, input));
  return { parameter, input };
}

// What a body is made from when it is sent: a function that gives headers and content.
function bodyInput(form, fields, api, operation) {
  const content = operation.requestBody ? operation.requestBody.content : {};
  if (content["application/json"]) {
    return jsonInput(form, fields, resolved(api, content["application/json"].schema));
  }
  if (content["multipart/form-data"]) {
    return formInput(form, resolved(api, content["multipart/form-data"].schema));
  }
  return () => ({ headers: {}, content: undefined });
}

function jsonInput(form, fields, schema) {
  const example = {};
  for (const name of schema.required || []) {
    example[name] = schema.properties[name].type === "string" ? "Hello there." : null;
  }
  const text = make("textarea", { name: "body", value: JSON.stringify(example, null, 2), spellcheck: false });
  form.append(make("label", {}, "Body (JSON)", text));
  fields.append(fieldsTable(schema));
  return () => ({ headers: { "Content-Type": "application/json" }, content: text.value });
}

function formInput(form, schema) {
  const fields = Object.entries(schema.properties).map(([name, about]) => {
    const isFile = about.format === "binary";
    const input = make("input", { name, type: isFile ? "file" : "text",
      required: (schema.required || []).includes(name) });
    form.append(make("label", {}, name, input, make("small", { textContent: about.description || "" })));
    return [name, input];
  });
  return () => {
    const content = new FormData();
    for (const [name, input] of fields) {
      const value = input.type === "file" ? input.files[0] : input.value;
      if (value) content.append(name, value);
    }
    return { headers: {}, content };
  };
}

function fieldsTable(schema) {
  const rows = Object.entries(schema.properties).map(([name, about]) => make("tr", {},
    make("td", {}, make("code", { textContent: name })),
    make("td", { textContent: kind(about) }),
    make("td", { textContent: about.description || "" })));
  return make("table", {}, ...rows);
}

function kind(about) {
  if (about.enum) return about.enum.join(", ");
  if (about.anyOf) return about.anyOf.map(kind).filter((each) => each !== "null").join(" or ");
  return about.type || (about.$ref || "").split("/").pop();
}

function answersTable(operation) {
  const rows = Object.entries(operation.responses).map(([status, about]) => make("tr", {},
    make("td", { textContent: status }), make("td", { textContent: about.description || "" })));
  return make("table", {}, ...rows);
}

function resolved(api, schema) {
  return schema.$ref ? api.components.schemas[schema.$ref.split("/").pop()] : schema;
}

async function send(path, method, inputs, body, result) {
  let url = path;
  const query = new URLSearchParams();
  for (const { parameter, input } of inputs) {
    if (parameter.in === "path") {
      url = url.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    } else if (parameter.in === "query" && input.value) {
      query.set(parameter.name, input.value);
    }
  }
  const { headers, content } = body();
  result.replaceChildren("…");
  try {
    const target = query.size ? `${url}?${query}` : url;
    const answer = await fetch(target, { method: method.toUpperCase(), headers: authorized(headers), body: content });
    result.replaceChildren(...await answered(answer));
  } catch (error) {
    result.replaceChildren(make("p", { textContent: `No whole answer: ${error.message}` }));
  }
}

async function answered(answer) {
  const type = answer.headers.get("content-type") || "";
  const parts = [make("p", { textContent: `${answer.status} ${answer.statusText}` }),
    make("pre", { textContent: [...answer.headers].map((each) => each.join(": ")).join("\n") })];
  if (/^(audio|application\/octet-stream)/.test(type)) {
    const sound = await answer.blob();
    const link = URL.createObjectURL(sound);
    parts.push(make("audio", { controls: true, src: link }),
      make("a", { href: link, download: "speech", textContent: `Save ${sound.size} bytes` }));
    return parts;
  }
  const text = await answer.text();
  parts.push(make("pre", { textContent: type.includes("json") ? JSON.stringify(JSON.parse(text), null, 2) : text }));
  return parts;
}

document.getElementById("door").addEventListener("submit", (event) => {
  event.preventDefault();
  key = document.getElementById("key").value;
  begin();
});
begin();
