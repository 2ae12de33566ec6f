/** What the tables of `docs/protocol.zh.md` say in Chinese. What is not here does not pass the types. */
import type { Closing, ClosingName, wireLimits } from '@hawser/protocol';

export const closingReasons: Readonly<Record<ClosingName, string>> = {
  logout: '退出（cmd 104）',
  peerEnded: '客户端关闭了自己的发送方向',
  takenOver: '同名的新登录',
  notProtobuf: '帧体不是 protobuf',
  frameTooLong: '帧的长度超限',
  undecryptable: '第十个无法解密的帧',
  loginTimeout: '未在规定时间内登录',
  idleTimeout: '在规定时间内没有收到任何数据',
  frameTimeout: '一帧未在规定时间内收全',
  unfinishedFrames: '未收全的帧占用内存过多',
  removed: '名字被运维人员删除',
  revoked: '设备的密钥被运维人员更换或吊销',
  handshakeFailed: 'TLS 握手失败或超时',
  badCertificate: '要求证书而没有出示，或证书不被接受',
  badProxyHeader: '应带 PROXY 头的代理没有发来合法的 PROXY 头',
  tooManyConnections: '连接过多',
  crowdedOut: '需要腾出空间，而该连接尚未登录',
  moved: '节点正在腾空：其客户端由其他节点接管',
  stopping: '服务器正在停止',
  internalError: '服务器内部错误',
};

export const sentFirst: Readonly<Record<Closing['says'], string>> = {
  nothing: '无',
  'cmd 3': 'cmd 3',
  'cmd 103': 'cmd 103',
};

export const limitReasons: Readonly<Record<keyof typeof wireLimits, string>> = {
  frameBytesMaxBeforeLogin: '尚未登录的客户端所发帧体的上限。之所以小，是因为任何人都能发送。',
  frameBytesMax: '登录之后的帧体上限，服务器自己发出的帧也遵守。',
  devicesPageMax: 'cmd 205 的一个响应中的设备数。',
  devicesPageBytesMax: '这种响应的大小：达到时该页提前结束，以免长时间阻塞其他数据。',
  msgBytesMax: '`msg` 按 JSON 文本计的上限：为推送中的名字、`msgId`、信封和填充留出空间。',
  pushBatchBytesMax: '一个 201 帧的数组达到这一大小后不再加入消息。',
  nameBytesMax: '用户名和设备 id，按 UTF-8 字节计。',
  msgIdBytesMax: '消息的 `msgId`，按 UTF-8 字节计。',
  secretBytesMax: '设备的 `secret`，按 UTF-8 字节计：足以用文本容纳 768 位随机数。',
  codeBytesMin: '设备的配对码，按 UTF-8 字节计：短到可以印在标签上，长到一天之内猜不出来。',
  codeBytesMax: '设备的配对码，按 UTF-8 字节计：短到可以印在标签上，长到一天之内猜不出来。',
  jsonDepthMax: 'JSON 嵌套层数。远超任何真实消息；保护以递归方式解析的接收方。',
  undecryptableFramesMax: '无法解密的帧：每一个都得到响应，达到这一数目时连接还会关闭。',
  ttlSecondsMax: '消息的 `ttl`，单位秒：30 天。',
  rsaModulusBits: '服务器密钥的 RSA 模数位数：cmd 2 中的密文为 256 字节。',
};
