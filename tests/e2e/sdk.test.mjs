// Chat and text completions through the official Node SDK. Run by test_node_sdk.py: PHID_URL is the server's base URL.
import test from 'node:test';
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const require = createRequire(process.env.PHID_NODE_MODULES + '/');
const { default: OpenAI } = await import(pathToFileURL(require.resolve('openai')).href);

const client = new OpenAI({ baseURL: process.env.PHID_URL + '/v1', apiKey: 'sk-no-key', maxRetries: 0 });
const messages = [{ role: 'user', content: 'What is the capital of France?' }];
const model = process.env.PHID_MODEL;
const expected = process.env.PHID_EXPECTED;
const base = { model, messages, temperature: 0, max_completion_tokens: 60 };

test('chat', async () => {
  const reply = await client.chat.completions.create(base);
  assert.equal(reply.object, 'chat.completion');
  assert.match(reply.choices[0].message.content, new RegExp(expected));
  assert.equal(reply.choices[0].finish_reason, 'stop');
  assert.match(reply._request_id, /^req_/);
});

test('chat stream equals the whole', async () => {
  const whole = await client.chat.completions.create(base);
  const stream = await client.chat.completions.create({ ...base, stream: true, stream_options: { include_usage: true } });
  let text = '';
  let usage = null;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? '';
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, whole.choices[0].message.content);
  assert.deepEqual(usage.total_tokens, whole.usage.total_tokens);
});

test('stream helper', async () => {
  const runner = client.chat.completions.stream(base);
  const events = [];
  runner.on('content', (delta) => events.push(delta));
  const final = await runner.finalChatCompletion();
  assert.equal(events.join(''), final.choices[0].message.content);
  assert.equal(final.choices[0].message.role, 'assistant');
});

test('n choices in a stream', async () => {
  const runner = client.chat.completions.stream({ ...base, n: 2 });
  const final = await runner.finalChatCompletion();
  assert.equal(final.choices.length, 2);
  assert.equal(final.choices[0].message.content, final.choices[1].message.content);
});

test('logprobs', async () => {
  const reply = await client.chat.completions.create({ ...base, logprobs: true, top_logprobs: 2 });
  const content = reply.choices[0].logprobs.content;
  assert.ok(content.length > 0 && content.every((e) => e.top_logprobs.length === 2 && e.logprob <= 0));
});

test('completions, streamed and not', async () => {
  const fields = { model, prompt: 'The capital of France is', temperature: 0, max_tokens: 8 };
  const whole = await client.completions.create(fields);
  let text = '';
  for await (const chunk of await client.completions.create({ ...fields, stream: true })) {
    text += chunk.choices[0].text;
  }
  assert.equal(text, whole.choices[0].text);
});

test('models', async () => {
  const names = [];
  for await (const m of client.models.list()) names.push(m.id);
  assert.ok(names.includes(model));
  assert.equal((await client.models.retrieve(model)).object, 'model');
});

test('errors arrive as the documented classes', async () => {
  await assert.rejects(client.chat.completions.create({ ...base, model: 'nope' }), (e) =>
    e instanceof OpenAI.NotFoundError && e.code === 'model_not_found' && e.param === 'model' && /^req_/.test(e.requestID));
  await assert.rejects(client.chat.completions.create({ ...base, temperature: 9 }), (e) =>
    e instanceof OpenAI.BadRequestError && e.param === 'temperature' && e.type === 'invalid_request_error');
  await assert.rejects(client.chat.completions.create({ ...base, messages: [] }), OpenAI.BadRequestError);
});

test('abort leaves the server well', async () => {
  const stream = await client.completions.create({ model, prompt: 'x', max_tokens: 2000, temperature: 1, ignore_eos: true, stream: true });
  for await (const _ of stream) break;
  stream.controller.abort();
  assert.equal((await client.chat.completions.create(base)).choices.length, 1);
});
