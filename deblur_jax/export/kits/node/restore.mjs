// Restores a photograph with the network in this folder: node restore.mjs photo.jpg sharp.png [largest side at once]
//
// Pictures larger than that side (1024) are done in tiles, which overlap by as much as the network sees of its
// surroundings and therefore leave no seams.

import { existsSync, realpathSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import * as ort from 'onnxruntime-node';
import sharp from 'sharp';

const up = (size, multiple) => Math.ceil(size / multiple) * multiple;

/** The place in a row of `size` pixels that place `i` mirrors, at and beyond its end. */
function mirrored(i, size) {
  const period = Math.max(1, 2 * (size - 1));
  return size - 1 - Math.abs((i % period) - (size - 1));
}

/** How far a dark picture is brightened for the network: 0 is not at all, 1 is its square root. */
function darkness({ data, width, height }) {
  const every = Math.max(1, Math.floor(Math.sqrt(Math.floor((width * height) / 65536))));
  const counts = new Array(256).fill(0);
  for (let row = 0; row < height; row += every) {
    for (let column = 0; column < width; column += every) {
      for (let c = 0; c < 3; c++) counts[data[3 * (row * width + column) + c]]++;
    }
  }
  const total = counts.reduce((sum, n) => sum + n);
  const ranked = (rank) => { // the value that so many are below or equal to
    let value = 0;
    for (let left = rank - counts[0]; left > 0; left -= counts[++value]);
    return value;
  };
  const median = Math.min(0.15, Math.max(0.001, (ranked(Math.ceil(total / 2)) + ranked(Math.floor(total / 2) + 1)) / 510));
  return Math.min(1, (0.15 ** 2 - median ** 2) / (median - median ** 2));
}

/** A piece of an RGB picture of bytes, from (x, y), as the network takes it: `values` has the float of each byte. */
function cut(picture, values, x, y, width, height) {
  const data = new Float32Array(width * height * 3);
  for (let row = 0, at = 0; row < height; row++) {
    const from = mirrored(y + row, picture.height) * picture.width;
    for (let column = 0; column < width; column++) {
      const pixel = 3 * (from + mirrored(x + column, picture.width));
      for (let c = 0; c < 3; c++) data[at++] = values[picture.data[pixel + c]];
    }
  }
  return new ort.Tensor('float32', data, [1, height, width, 3]);
}

/** An RGB picture ({data: bytes, width, height}) of any size. `session` is the network and `card` its card.json. */
export async function restore(session, card, picture, tile = 1024) {
  const multiple = card.network.multiple_of;
  const [width, height] = [picture.width, picture.height].map((side) => Math.max(card.input.least_side, up(side, multiple)));
  // None: it sees the whole picture; what a tile lacks was measured.
  const seen = card.network.receptive_field;
  const margin = up(seen ? Math.floor((seen - 1) / 2) : card.network.overlap, multiple);
  const kept = Math.max(multiple, Math.floor(Math.max(tile - 2 * margin, tile / 2) / multiple) * multiple);
  const [columns, rows] = [width, height].map((side) => (side <= tile ? side : kept));
  const dark = card.network.brightens ? darkness(picture) : 0;
  const values = Float32Array.from({ length: 256 }, (_, byte) => {
    const value = byte / 255;
    return dark ? Math.sqrt(value * (dark + (1 - dark) * value)) : value;
  });
  const stored = (value) => (dark ? (2 * value * value) / (dark + Math.sqrt(dark ** 2 + 4 * (1 - dark) * value ** 2)) : value);
  const data = new Uint8Array(picture.data.length);
  for (let top = 0; top < height; top += rows) {
    for (let left = 0; left < width; left += columns) {
      const [x, y] = [Math.max(0, left - margin), Math.max(0, top - margin)];
      const [right, bottom] = [Math.min(width, left + columns + margin), Math.min(height, top + rows + margin)];
      const { restored } = await session.run({ picture: cut(picture, values, x, y, right - x, bottom - y) });
      for (let row = top; row < Math.min(top + rows, picture.height); row++) {
        for (let column = left; column < Math.min(left + columns, picture.width); column++) {
          const from = 3 * ((row - y) * (right - x) + column - x);
          const to = 3 * (row * picture.width + column);
          for (let c = 0; c < 3; c++) {
            data[to + c] = Math.round(255 * stored(Math.min(1, Math.max(0, restored.data[from + c]))));
          }
        }
      }
    }
  }
  return { data, width: picture.width, height: picture.height };
}

async function main([input, output, tile]) {
  if (!output) throw new Error('node restore.mjs photo.jpg sharp.png [largest side at once]');
  if (existsSync(output)) throw new Error(`${output} exists already`);
  const here = (name) => fileURLToPath(new URL(name, import.meta.url));
  const card = JSON.parse(await readFile(here('card.json'), 'utf8'));
  const session = await ort.InferenceSession.create(here(card.model));
  const read = sharp(input).rotate().toColourspace('srgb').removeAlpha().raw();
  const { data, info } = await read.toBuffer({ resolveWithObject: true });
  const restored = await restore(session, card, { data, width: info.width, height: info.height }, Number(tile ?? 1024));
  const raw = { width: restored.width, height: restored.height, channels: 3 };
  await sharp(restored.data, { raw }).jpeg({ quality: 95, force: false }).toFile(output);
}

// Imported it only offers `restore`. The command may name it through a link.
if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  main(process.argv.slice(2)).catch((error) => {
    console.error(error.message);
    process.exitCode = 2;
  });
}
