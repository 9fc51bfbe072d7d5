// The calls of clients for Node, each as its own documentation has it: `node cases.mjs URL` prints one JSON line a call.
import { readFileSync } from "node:fs";
import OpenAI from "openai";
import { experimental_generateImage, generateImage } from "ai";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";

const base = `${process.argv[2]}/v1`;
const prompt = "a red star on a blue background";
const paint = generateImage ?? experimental_generateImage;
const client = new OpenAI({ baseURL: base, apiKey: "none" });
const vercel = createOpenAI({ baseURL: base, apiKey: "none" });
const compatible = createOpenAICompatible({ name: "palimpsest", baseURL: base, apiKey: "none" });

const version = (name) => JSON.parse(readFileSync(`node_modules/${name}/package.json`)).version;
const shown = (bytes) => {
  if (Buffer.from(bytes).subarray(1, 4).toString() !== "PNG") throw new Error("no picture in the answer");
};
const drawn = async (options) => {
  for (const each of (await paint({ prompt, maxRetries: 0, ...options })).images) shown(each.uint8Array);
};

const cases = [
  ["openai", "openai (Node)", "images.generate", async () => {
    shown(Buffer.from((await client.images.generate({ prompt })).data[0].b64_json, "base64"));
  }],
  ["openai", "openai (Node)", "..., `stream: true`", async () => {
    const types = [];
    for await (const event of await client.images.generate({ prompt, stream: true })) types.push(event.type);
    if (types.join() !== "image_generation.completed") throw new Error(`events: ${types}`);
  }],
  ["openai", "openai (Node)", "..., `response_format: \"url\"`", async () => {
    const { url } = (await client.images.generate({ prompt, response_format: "url" })).data[0];
    shown(await (await fetch(url)).arrayBuffer());
  }],
  ["ai", "ai, @ai-sdk/openai", "generateImage, `n: 3`", () => drawn({ model: vercel.image("signpost-pixart"), n: 3 })],
  ["ai", "ai, @ai-sdk/openai", "..., model `gpt-image-1`, `size: \"1024x1024\"`",
    () => drawn({ model: vercel.image("gpt-image-1"), size: "1024x1024" })],
  ["ai", "ai, @ai-sdk/openai-compatible", "generateImage, `n: 3`, `seed` by `providerOptions`",
    () => drawn({ model: compatible.imageModel("signpost-pixart"), n: 3, providerOptions: { palimpsest: { seed: 7 } } })],
];

for (const [name, label, call, work] of cases) {
  let error = null;
  try { await work(); } catch (failed) { error = String(failed.message ?? failed).split("\n")[0]; }
  console.log(JSON.stringify({ client: `${label} ${version(name)}`, call, error }));
}
