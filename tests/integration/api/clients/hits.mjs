// Node's fetch as it comes: a body of a known length, and a stream, which goes in chunks.
const url = process.argv[2];
const hit = '{"id":"node"}';
const bodies = [hit, hit, hit, new Blob([hit]).stream()];
for (const body of bodies) {
  const answer = await fetch(url, { method: "POST", body, duplex: "half" });
  await answer.text();
  console.log(answer.status);
}
