// Asks a server which digit a picture shows:
//
//     node client.js ../digit.png
//     node client.js ../digit.png --signature_name call    for the model of saved_with_signature
//
// The picture is scaled to 28x28 and sent in grey, so it should be white on black as MNIST is.

const { parseArgs } = require('node:util')
const Jimp = require('jimp')
const superagent = require('superagent')

const USAGE = 'usage: node client.js IMAGE [--url URL] [--signature_name NAME]'
const SIZE = 28
const INK = 0.3 // A printed pixel above this is ink.
const TIMEOUT_MS = 60_000

const parse = () => {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      url: { type: 'string', default: 'http://localhost:8501/v1/models/MLP:predict' },
      signature_name: { type: 'string' }
    }
  })
  if (positionals.length !== 1) throw new Error(USAGE)
  return { image: positionals[0], ...values }
}

// The picture as one instance: 28 rows of 28 pixels [grey], grey from 0 to 1.
const readPicture = async (image) => {
  const picture = await Jimp.read(image).catch((error) => {
    throw new Error(`Could not read ${image} as a picture: ${error.message}`)
  })
  picture.resize(SIZE, SIZE)
  const pixel = (x, y) => {
    const { r, g, b } = Jimp.intToRGBA(picture.getPixelColor(x, y))
    return [Math.round(0.299 * r + 0.587 * g + 0.114 * b) / 255]
  }
  const range = [...Array(SIZE).keys()]
  return range.map((y) => range.map((x) => pixel(x, y)))
}

// Prints an instance as 28 lines: ink is blank, paper is 1.
const show = (pixels) => {
  for (const row of pixels) console.log(row.map(([grey]) => (grey > INK ? ' ' : '1')).join(' '))
}

// For each instance the probabilities of the digits 0 to 9.
const predict = async (url, signatureName, instances) => {
  // An undefined signature_name is left out of the JSON.
  const response = await superagent
    .post(url)
    .timeout(TIMEOUT_MS)
    .ok(() => true)
    .send({ signature_name: signatureName, instances })
    .catch((error) => {
      throw new Error(
        error.status
          ? `${url} answered ${error.status} without JSON`
          : `Could not reach ${url} (${error.code ?? error.message})`
      )
    })
  const { predictions, error } = response.body ?? {}
  if (predictions) return predictions
  if (error) throw new Error(`The server answered ${response.status}: ${error}`)
  throw new Error(`${url} answered ${response.status} without predictions`)
}

const main = async () => {
  const { image, url, signature_name: signatureName } = parse()
  const pixels = await readPicture(image)
  show(pixels)
  for (const probabilities of await predict(url, signatureName, [pixels])) {
    const probability = Math.max(...probabilities)
    const digit = probabilities.indexOf(probability)
    console.log(`This is a ${digit}, with probability ${probability}`)
  }
}

main().catch((error) => {
  console.error(error.message)
  process.exitCode = 1
})
