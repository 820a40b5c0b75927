// The gRPC port under TLS, with certificates that openssl makes.
#include <gmock/gmock.h>

#include <cstdlib>

#include "server/tls.h"
#include "server_fixture.h"

namespace svdllm {
namespace {

using ::testing::HasSubstr;

std::string Content(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

class ServerTlsTest : public ServerTest {
 protected:
  void SetUp() override {
    ServerTest::SetUp();
    MakeCa("ca");
    Sign("server", "ca", "localhost", 2);
    Sign("client", "ca", "alice", 2);
    files_ = {Path("server.crt"), Path("server.key"), Path("ca.crt")};
  }
  std::string Path(const std::string& name) const { return directory_ + "/" + name; }
  void Run(const std::string& command) {
    ASSERT_EQ(std::system(("cd " + directory_ + " && " + command + " 2>openssl.log").c_str()), 0)
        << command << "\n"
        << Content(Path("openssl.log"));
  }
  void MakeCa(const std::string& name) {
    Run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=" +
        name + " -keyout " + name + ".key -out " + name + ".crt");
  }
  // days: how long the certificate is good from now; below 0 it has run out.
  void Sign(const std::string& name, const std::string& ca, const std::string& host, int days) {
    Run("openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=" + host +
        " -keyout " + name + ".key -out " + name + ".csr");
    Run("printf 'subjectAltName=DNS:" + host + "' > " + name + ".ext && openssl x509 -req -in " +
        name + ".csr -CA " + ca + ".crt -CAkey " + ca + ".key -days " + std::to_string(days) +
        " -extfile " + name + ".ext -out " + name + ".crt");
  }
  void StartTls() {
    ASSERT_TRUE(ReadTlsFiles(files_).ok()) << ReadTlsFiles(files_).status();
    server_.reset();
    ApiServerOptions options;
    options.artifact_root = directory_ + "/artifacts";
    options.tls = files_;
    options.tokens = tokens_;
    auto server = ApiServer::Start(options, *store_, *artifacts_, engine_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = std::move(*server);
  }
  // A new connection.
  std::unique_ptr<v1::CompressionService::Stub> Connect(
      const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
    grpc::ChannelArguments apart;
    apart.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return v1::CompressionService::NewStub(grpc::CreateCustomChannel(
        "localhost:" + std::to_string(server_->port()), credentials, apart));
  }
  // What a new connection is answered.
  grpc::Status Ask(const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
    const auto stub = Connect(credentials);
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    v1::ServerInfo info;
    return stub->GetServerInfo(&context, {}, &info);
  }
  // identity: whose certificate the caller has.
  grpc::Status Ask(const std::string& ca, const std::string& identity) {
    return Ask(Ssl(ca, identity));
  }
  std::shared_ptr<grpc::ChannelCredentials> Ssl(const std::string& ca,
                                                const std::string& identity) {
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = Content(Path(ca + ".crt"));
    if (!identity.empty()) {
      options.pem_cert_chain = Content(Path(identity + ".crt"));
      options.pem_private_key = Content(Path(identity + ".key"));
    }
    return grpc::SslCredentials(options);
  }

  TlsFiles files_;
};

TEST_F(ServerTlsTest, CallersWithACertificateOfTheCaAreLetIn) {
  StartTls();
  const grpc::Status status = Ask("ca", "client");
  EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST_F(ServerTlsTest, OthersAreNot) {
  MakeCa("other");
  Sign("stranger", "other", "alice", 2);
  Sign("expired", "ca", "alice", -1);
  StartTls();
  for (const char* identity : {"", "stranger", "expired"}) {
    EXPECT_EQ(Ask("ca", identity).error_code(), grpc::StatusCode::UNAVAILABLE) << identity;
  }
  EXPECT_EQ(Ask(grpc::InsecureChannelCredentials()).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_TRUE(Ask("ca", "client").ok());
}

TEST_F(ServerTlsTest, WithoutAClientCaCallersNeedNoCertificate) {
  files_.client_ca.clear();
  StartTls();
  EXPECT_TRUE(Ask("ca", "").ok());
  EXPECT_EQ(Ask(grpc::InsecureChannelCredentials()).error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(ServerTlsTest, AJobIsOfWhomTheCertificateNames) {
  const auto owner = [this]() -> std::string {
    stub_ = Connect(Ssl("ca", "client"));
    v1::Job job;
    const grpc::Status status = Compress(Compression(), job);
    return status.ok() ? job.owner() : DetailsOf(status).info.reason();
  };
  StartTls();
  EXPECT_EQ(owner(), "alice");
  tokens_ = Path("tokens");
  std::ofstream(tokens_) << "accounts submit cert:alice\n";
  StartTls();
  EXPECT_EQ(owner(), "accounts");
  std::ofstream(tokens_) << "accounts read cert:alice\n";
  StartTls();
  EXPECT_EQ(owner(), "FORBIDDEN");
  std::ofstream(tokens_) << "accounts submit cert:bob\n";
  StartTls();
  EXPECT_EQ(owner(), "UNAUTHENTICATED");
}

TEST_F(ServerTlsTest, NamesOfACertificate) {
  Run("printf 'subjectAltName=DNS:a.example,URI:spiffe://a/b,email:a@b.example,IP:127.0.0.1' >n.ext"
      " && openssl req -newkey rsa:2048 -nodes -subj '/O=x/CN=J\u00f6rg of accounts' -utf8 -keyout"
      " n.key -out n.csr && openssl x509 -req -in n.csr -CA ca.crt -CAkey ca.key -extfile n.ext"
      " -outform DER -out n.der");
  EXPECT_THAT(
      CertificateNames(Content(Path("n.der"))),
      ::testing::ElementsAre("J\u00f6rg of accounts", "a.example", "spiffe://a/b", "a@b.example"));
  EXPECT_THAT(CertificateNames(Content(Path("ca.crt"))), ::testing::IsEmpty());
  EXPECT_THAT(CertificateNames(""), ::testing::IsEmpty());
}

TEST_F(ServerTlsTest, AServerOfAnotherCaOrNameIsNotTrusted) {
  MakeCa("other");
  StartTls();
  EXPECT_EQ(Ask("other", "client").error_code(), grpc::StatusCode::UNAVAILABLE);
  Sign("elsewhere", "ca", "elsewhere.example", 2);
  files_.cert = Path("elsewhere.crt");
  files_.key = Path("elsewhere.key");
  StartTls();
  EXPECT_EQ(Ask("ca", "client").error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(ServerTlsTest, ChangedFilesAreReadAgain) {
  StartTls();
  ASSERT_TRUE(Ask("ca", "client").ok());
  MakeCa("next");
  Sign("server", "next", "localhost", 2);
  Sign("newcomer", "next", "bob", 2);
  std::filesystem::copy_file(Path("next.crt"), Path("ca.crt"),
                             std::filesystem::copy_options::overwrite_existing);
  grpc::Status status;
  for (int i = 0; i < 100; ++i) {
    status = Ask("next", "newcomer");
    if (status.ok()) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_FALSE(Ask("next", "client").ok());
}

TEST_F(ServerTlsTest, FilesThatDoNotFitDisturbNobody) {
  StartTls();
  for (const std::string& key : {Content(Path("client.key")), std::string("no key")}) {
    std::ofstream(files_.key) << key;
    std::this_thread::sleep_for(std::chrono::milliseconds(2500));
    EXPECT_TRUE(Ask("ca", "client").ok()) << key;
  }
}

TEST_F(ServerTlsTest, FilesThatCannotBeUsedAreNamed) {
  const auto expect = [](const TlsFiles& files, const std::string& flag, const std::string& what) {
    const absl::Status status = ReadTlsFiles(files).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("--" + flag + ": "));
    EXPECT_THAT(std::string(status.message()), HasSubstr(what));
  };
  expect({files_.cert, "", ""}, "tls_cert", "--tls_key");
  expect({"", files_.key, ""}, "tls_key", "--tls_cert");
  expect({"", "", files_.client_ca}, "tls_client_ca", "--tls_cert");
  expect({files_.cert, Path("absent"), ""}, "tls_key", Path("absent"));
  expect({files_.key, files_.key, ""}, "tls_cert", files_.key);
  expect({files_.cert, files_.cert, ""}, "tls_key", files_.cert);
  expect({files_.cert, Path("client.key"), ""}, "tls_key", "is not the key of");
  expect({files_.cert, files_.key, text_}, "tls_client_ca", text_);
}

}  // namespace
}  // namespace svdllm
